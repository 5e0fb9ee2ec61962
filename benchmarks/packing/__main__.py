"""Eight trials in one pack, one after another in the same warm lane, and by Hugging Face's `Trainer`.

Model and samples are random; each trial trains an epoch at an LR of its own. The sides take turns, timed from the first
trial's start to the last one's end. If `auto` chooses another number of slots than eight, it is timed too. Packing
saves the cost of a step beyond its arithmetic; with many tokens the arithmetic fills the machine.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from benchmarks.clock import Clock
from benchmarks.common import machine, parser, print_result, rounded, say
from benchmarks.packing.sides import VOCABULARY, Pace, Setting, random_base
from trainables.packing.autotune import measure_slots

TRIALS = 8
TARGET_SPEED_UP = 1.8  # over one after another, at TARGET_TOKENS a step or fewer
TARGET_TOKENS = 32
NEVER_BELOW = 0.97  # of the speed one after another, for the slots that `auto` chooses


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    base = random_base("tiny", torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    rows = [Case(base, tokens, options).run() for tokens in options.tokens]
    judged = [row["speed_up_over_one_after_another"] for row in rows if row["tokens_a_step"] <= TARGET_TOKENS]
    auto = [row["speed_up_of_auto"] for row in rows]
    print_result(
        {
            "benchmark": "packing",
            "machine": machine(),
            "options": vars(options),
            "cases": rows,
            "target": {
                f"speed_up_at_{TARGET_TOKENS}_tokens_or_fewer": TARGET_SPEED_UP,
                "least_speed_up_of_auto": NEVER_BELOW,
            },
            "met": bool(judged) and min(judged) >= TARGET_SPEED_UP and min(auto) >= NEVER_BELOW,
        }
    )


def parse() -> argparse.Namespace:
    command = parser("packing", str(__doc__).partition("\n")[0], "--tokens 32 --rounds 5")
    command.add_argument(
        "--tokens", nargs="+", type=int, default=[16, 32, 128, 512], help="mean tokens a step and trial"
    )
    command.add_argument("--batch-size", type=int, default=2, help="sequences a step and trial")
    command.add_argument("--steps", type=int, default=40, help="of each trial's epoch")
    command.add_argument("--rounds", type=int, default=5, help="turns of each side")
    command.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of all sides")
    return command.parse_args()


class Case:
    """One number of tokens a step and trial."""

    def __init__(self, base: Any, tokens: int, options: argparse.Namespace) -> None:
        self.tokens, self.rounds = tokens, options.rounds
        self.setting = Setting(base, tokens, VOCABULARY["tiny"], Pace(0, options.steps, options.batch_size))
        self.chosen = measure_slots(base, self.setting.samples, self.setting.config, "auto")  # type: ignore[arg-type]
        self.sides: dict[str, Callable[[], None]] = {
            "packed": lambda: self.setting.side_by_side(TRIALS, TRIALS),
            "one_after_another": lambda: self.setting.side_by_side(TRIALS, 1),
            "trainer": self._trainer,
        }
        if self.chosen.slots not in (1, TRIALS):
            self.sides["auto"] = lambda: self.setting.side_by_side(TRIALS, self.chosen.slots)

    def run(self) -> dict[str, Any]:
        for side in self.sides.values():  # once each, not counted
            side()
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in self.sides}
        for number in range(self.rounds):
            for name in self.sides if number % 2 == 0 else reversed(self.sides):
                runs[name].append(measured(self.sides[name]))
        auto = {1: "one_after_another", TRIALS: "packed"}.get(self.chosen.slots, "auto")
        row = {
            "tokens_a_step": self.tokens,
            "seconds": {name: rounded([run["seconds"] for run in found], 3) for name, found in runs.items()},
            "cpu_seconds": {name: rounded([run["cpu_seconds"] for run in found], 3) for name, found in runs.items()},
            "memory_mb": {name: round(max(run["memory_mb"] for run in found)) for name, found in runs.items()},
            "speed_up_over_one_after_another": ratio(runs, "one_after_another", "packed"),
            "speed_up_over_trainer": ratio(runs, "trainer", "packed"),
            "slots_of_auto": self.chosen.slots,
            "seconds_a_step_by_slots": {slots: round(s, 5) for slots, s in self.chosen.seconds_per_step.items()},
            "speed_up_of_auto": ratio(runs, "one_after_another", auto),
        }
        say(f"{self.tokens} tokens: {row['speed_up_over_one_after_another']} times one after another")
        return row

    def _trainer(self) -> None:
        for _ in range(TRIALS):
            self.setting.trainer(Clock(0))


def ratio(runs: dict[str, list[dict[str, float]]], slower: str, faster: str) -> float:
    """Median speed-up over the rounds."""
    pairs = zip(runs[slower], runs[faster], strict=True)
    return round(statistics.median(one["seconds"] / other["seconds"] for one, other in pairs), 2)


def measured(side: Callable[[], None]) -> dict[str, float]:
    """Wall and CPU time of a side, and its memory beyond that of the process before."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back, so that each side's memory shows
    process, most, done = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started, cpu_started = time.perf_counter(), time.process_time()
    side()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    done.set()
    watcher.join()
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "memory_mb": most[0] / 2**20}


if __name__ == "__main__":
    main()
