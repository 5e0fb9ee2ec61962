"""Speed of trials on random weights: this project's loop, packs and Hugging Face's `Trainer` in turn; stalls.

All sides of a cell train the same weights on the same samples, in the same order, batch size and precision. The trials
of a pack differ in LR, as in an LR sweep. Figures are medians of the rounds after warm-up; padding is not counted.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import stalls
from benchmarks.clock import Clock
from benchmarks.gpu.sizes import Budget, Cell, Method, Sizes
from benchmarks.packing.sides import VOCABULARY, Setting, random_base
from trainables.checkpoints.async_writer import Writer

# Least speed-up of the best number of slots in the first cell, over `Trainer` and over one trial alone; ours.
TARGETS = {"trainer": 4.0, "solo": 2.0}

OUT_OF_MEMORY = "out of memory"  # the figure of a side that does not fit
Result = dict[str, float] | str


def compare(cell: Cell, sizes: Sizes, device: torch.device, budget: Budget) -> dict[str, Any]:
    """Run the sides of a cell in turn, a further round only where there is time for it."""
    setting = Setting(random_base(cell.shape, device, cell.method), cell.tokens, VOCABULARY[cell.shape], sizes.pace)
    sides: dict[str, Callable[[Clock], int]] = {"trainer": setting.trainer, "solo": setting.solo}
    sides |= {f"packed {slots}": setting.packed(slots) for slots in cell.slots}
    rounds: dict[str, list[Result]] = {name: [] for name in sides}
    for number in range(sizes.rounds):
        began = budget.spent
        for name in sides if number % 2 == 0 else reversed(sides):
            rounds[name].append(OUT_OF_MEMORY if OUT_OF_MEMORY in rounds[name] else measure(setting, sides[name]))
        if budget.left < 1.5 * (budget.spent - began):
            break
    found = {name: medians(results) for name, results in rounds.items()}
    return {
        **cell._asdict(),
        "precision": setting.base.precision,
        "samples_a_step": sizes.pace.batch_size,
        "rounds": len(rounds["solo"]),
        "sides": {
            name: result if isinstance(result, str) else _beside(result, found) for name, result in found.items()
        },
    }


def measure(setting: Setting, side: Callable[[Clock], int]) -> Result:
    """One turn of a side."""
    clock, on_gpu = Clock(setting.pace.warm_up_steps), setting.base.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        tokens = side(clock)
        return {
            "tokens_a_second": tokens / clock.seconds,
            "step_ms": 1e3 * clock.seconds / setting.pace.steps,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0,
            "padding": clock.waste,
        }
    except torch.OutOfMemoryError:
        return OUT_OF_MEMORY
    finally:
        setting.loop.clear()  # frees the loop's pack with its slots
        free_memory()


def medians(results: list[Result]) -> Result:
    """Of the rounds; text where one did not fit."""
    measured = [result for result in results if not isinstance(result, str)]
    if len(measured) < len(results):
        return OUT_OF_MEMORY
    return {name: round(statistics.median(result[name] for result in measured), 3) for name in measured[0]}


def _beside(result: dict[str, float], found: dict[str, Result]) -> dict[str, float]:
    """A side's figures and how many times as fast as `Trainer`, and as one trial alone, it is."""
    others = {name: found[name] for name in TARGETS}
    speed = result["tokens_a_second"]
    return result | {
        f"over_{name}": round(speed / other["tokens_a_second"], 2)
        for name, other in others.items()
        if not isinstance(other, str)
    }


def verdict(cell: dict[str, Any]) -> dict[str, Any]:
    """Whether the best pack of a cell reaches the targets."""
    packs = [side for name, side in cell["sides"].items() if name.startswith("packed") and not isinstance(side, str)]
    best = {name: max((pack.get(f"over_{name}", 0.0) for pack in packs), default=0.0) for name in TARGETS}
    return {"targets": TARGETS, "found": best, "met": all(best[name] >= TARGETS[name] for name in TARGETS)}


def checkpoint_stalls(method: Method, sizes: Sizes, device: torch.device, folder: Path) -> dict[str, Any]:
    """Seconds that the loop waits in a checkpoint, and what of the steps' time that is."""
    base, vocabulary = random_base(sizes.shape, device, method), VOCABULARY[sizes.shape]
    setting = Setting(base, sizes.tokens, vocabulary, sizes.stalls, checkpoints_at=(1 / 3, 2 / 3, 1.0))
    writer = Writer()
    stalls.epoch(setting.loop, setting.samples, setting.config, writer, "none", folder)  # warms up
    seconds: dict[str, list[stalls.Epoch]] = {side: [] for side in stalls.SIDES}
    for _ in range(sizes.rounds):
        for side in stalls.SIDES:
            seconds[side].append(
                stalls.epoch(setting.loop, setting.samples, setting.config, writer, side, folder / side)
            )
    writer.close()
    del setting, base
    free_memory()
    return {"shape": sizes.shape, "method": method, **stalls.summary(seconds, sizes.stalls.steps, 3)}


def free_memory() -> None:
    """Give back what is no longer used: the next side must find as much free memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
