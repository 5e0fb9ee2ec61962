"""Packed trials on a GPU: tokens a second and peak memory against one trial after another and against `Trainer`.

Weights are random in real shapes: no download, no Ray, no config. All sides train LoRA on the same frozen weights,
samples, order, batch size and precision. The trials of a pack differ in LR, as in an LR sweep; one more line gives each
an order of its own. Sides take turns; figures are medians of the rounds after warm-up, without tokens of padding. Every
figure is printed as a JSON line, and a table at the end. `--models tiny` runs on CPUs, and says nothing about GPUs.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.clock import Clock
from benchmarks.packing.sides import SHAPES, VOCABULARY, Pace, Setting, random_base

# Least speed-up of the best number of slots, at 0.5B and 1,024 tokens.
TARGETS = {"trainer": 4.0, "solo": 2.0}

OUT_OF_MEMORY = "out of memory"  # the figure of a side that does not fit
Result = dict[str, float] | str
Cell = tuple[dict[str, Any], dict[str, Result]]


def measure(setting: Setting, side: Callable[[Clock], int]) -> Result:
    clock = Clock(setting.pace.warm_up_steps)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        tokens = side(clock)
        peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
        milliseconds = 1e3 * clock.seconds / setting.pace.steps
        return {
            "tokens_a_second": tokens / clock.seconds,
            "step_ms": milliseconds,
            "peak_gib": peak,
            "waste": clock.waste,
        }
    except torch.OutOfMemoryError:
        return OUT_OF_MEMORY
    finally:
        setting.loop.clear()  # frees the loop's pack with its slots
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the next side must find as much free memory


def compare(setting: Setting, labels: dict[str, Any], options: argparse.Namespace) -> dict[str, Result]:
    """Runs all sides in turn; prints and returns each side's medians."""
    sides: dict[str, Callable[[Clock], int]] = {"trainer": setting.trainer, "solo": setting.solo}
    sides |= {f"packed {slots}": setting.packed(slots) for slots in options.slots}
    sides["packed 8, own orders"] = setting.packed(8, own_orders=True)
    rounds: dict[str, list[Result]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            rounds[name].append(OUT_OF_MEMORY if OUT_OF_MEMORY in rounds[name] else measure(setting, side))
    found = {}
    for name, results in rounds.items():
        measured = [result for result in results if not isinstance(result, str)]
        found[name] = medians(measured) if len(measured) == len(results) else OUT_OF_MEMORY
        raw = [round(result["tokens_a_second"]) for result in measured]
        print(json.dumps({**labels, "side": name, "median": found[name], "rounds": raw}), flush=True)
    return found


def medians(results: list[dict[str, float]]) -> Result:
    return {name: round(statistics.median(result[name] for result in results), 3) for name in results[0]}


def table(cells: list[Cell]) -> str:
    """The cells as text; a ratio above 1 means that this side is faster."""
    heads = ("model", "tokens", "side", "tokens/s", "ms/step", "GiB", "waste", "x solo", "x Trainer")
    lines = ["{:>6} {:>6} {:>21} {:>9} {:>8} {:>6} {:>6} {:>7} {:>9}".format(*heads)]
    for labels, sides in cells:
        for name, result in sides.items():
            line = f"{labels['model']:>6} {labels['tokens']:>6} {name:>21} "
            if isinstance(result, str):
                lines.append(line + result)
                continue
            speed = result["tokens_a_second"]
            numbers = f"{speed:>9.0f} {result['step_ms']:>8.1f} {result['peak_gib']:>6.1f} {result['waste']:>6.1%}"
            lines.append(f"{line}{numbers} {ratio(speed, sides['solo']):>7} {ratio(speed, sides['trainer']):>9}")
    return "\n".join(lines)


def ratio(speed: float, other: Result) -> str:
    return "-" if isinstance(other, str) else f"{speed / other['tokens_a_second']:.2f}"


def verdict(cells: list[Cell]) -> dict[str, Any]:
    for labels, sides in cells:
        if (labels["model"], labels["tokens"]) == ("0.5B", 1024):
            speeds = {name: side["tokens_a_second"] for name, side in sides.items() if not isinstance(side, str)}
            best = max(speed for name, speed in speeds.items() if name.startswith("packed") and "own" not in name)
            found = {side: round(best / speeds[side], 2) for side in TARGETS}
            return {"targets": TARGETS, "found": found, "met": all(found[side] >= TARGETS[side] for side in TARGETS)}
    return {"targets": TARGETS, "found": "0.5B at 1,024 tokens was not measured"}


def main() -> None:
    options = parse()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    print(json.dumps({"date": str(datetime.date.today()), "device": name, "torch": torch.__version__}), flush=True)
    end = time.monotonic() + 60.0 * options.minutes
    pace = Pace(options.warm_up_steps, options.steps, options.batch_size)
    cells: list[Cell] = []
    for shape in options.models:
        base = random_base(shape, device)
        for tokens in options.tokens:
            labels = {"model": shape, "tokens": tokens, "precision": base.precision}
            if time.monotonic() > end:
                print(json.dumps({**labels, "left_out": "no time"}), flush=True)
                continue
            cells.append((labels, compare(Setting(base, tokens, VOCABULARY[shape], pace), labels, options)))
        del base
        gc.collect()
    print(table(cells))
    print(json.dumps(verdict(cells)))


def parse() -> argparse.Namespace:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.packing.gpu",
        description=str(__doc__).partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("--models", nargs="+", choices=list(SHAPES), default=["0.5B", "1.5B"], help="shapes")
    command.add_argument("--tokens", nargs="+", type=int, default=[1024, 512, 2048, 4096], help="a step and trial")
    command.add_argument("--slots", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="trials in one pack")
    command.add_argument("--batch-size", type=int, default=8, help="samples a step and trial")
    command.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    command.add_argument("--warm-up-steps", type=int, default=3, help="steps of a round that are not timed")
    command.add_argument("--rounds", type=int, default=3, help="turns of each side")
    command.add_argument("--minutes", type=float, default=60.0, help="after these no further cell is begun")
    return command.parse_args()


if __name__ == "__main__":
    main()
