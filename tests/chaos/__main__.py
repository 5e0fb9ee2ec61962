"""Kills a sweep's processes at planned moments, sixty and more, and checks that nothing is lost: `make chaos`.

python -m tests.chaos [--five | --random N] [--seed N] [--to DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# Ray reads these when it is imported: the two nodes, and the drivers that join them, share a token.
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "chaos-" + "0" * 32})

from tests.chaos.acts import CHECKPOINTS, NODE, five, sixty  # noqa: E402
from tests.chaos.audit import audit  # noqa: E402
from tests.chaos.conductor import ChaosError, Conductor  # noqa: E402
from tests.chaos.random_times import at_random_times  # noqa: E402
from trainables.reliability.fault_injection import Kill, marker, trace_of  # noqa: E402
from trainables.storage.layout import CURVE_FILE  # noqa: E402

# A checkpoint is written while the trial trains on: with steps of milliseconds, over a whole interval.
MOST_STEPS_AGAIN = 2 * CHECKPOINTS[0]
# A worker whose driver was killed trains until it learns of it, on a busy machine for seconds.
ORPHANED_SECONDS = 10.0


class Loss(NamedTuple):
    """The cost of a kill.

    Attributes:
        kill: The kill.
        steps: Steps trained again, over all trials.
        most: Steps trained again by one trial, without another kill in between.
        seconds: Until the trials that had to go back resumed; if none had to, until the next step of any trial.
    """

    kill: Kill
    steps: int
    most: int
    seconds: float


def main() -> int:
    """Run the command; return its exit code, 0 when nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="repeats a run")
    parser.add_argument("--five", action="store_true", help="one kill of each kind of process, in one sweep")
    parser.add_argument("--random", type=int, metavar="N", help="N kills at random times, over sweeps of packed trials")
    parser.add_argument("--to", type=Path, default=ROOT / ".cache" / "chaos", help="where the sweeps go; emptied first")
    parser.add_argument("--only", help="one act, by its name")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    if options.random:
        return at_random_times(options.seed, options.random, options.to.resolve())
    acts, who = (five if options.five else sixty)(options.seed)
    losses, wrong = [], []
    for act in (act for act in acts if options.only in (None, act.name)):
        place = options.to.resolve() / act.name
        shutil.rmtree(place, ignore_errors=True)
        conductor, started = Conductor(act, place), time.monotonic()
        try:
            conductor.run()
            found = audit(act, conductor.folder)
        except ChaosError as error:
            found = [f"lost: {error}"]
        found += [f"missed: {kill}" for kill in conductor.missed()]
        found += [f"mixed: {edit}" for edit in conductor.mixed]
        found += [f"left: process {title}" for title in conductor.left]
        costs = losses_of(conductor)
        found += [f"lost: {cost.most} steps again after {cost.kill}" for cost in costs if cost.most > MOST_STEPS_AGAIN]
        print(*(f"WRONG {fault}" for fault in found), sep="\n", end="\n" if found else "")
        print(
            f"{act.name}: {act.trials} trials, {len(conductor.strikes())} kills, {conductor.starts} starts of the "
            f"driver ({conductor.late_starts} late), {time.monotonic() - started:.0f} s, {len(found)} faults",
            flush=True,
        )
        losses += costs
        wrong += [f"{act.name}: {fault}" for fault in found]
    print(table(losses, who))
    kinds = ("lost", "doubled", "mixed", "corrupt", "differs", "left", "missed")
    print(f"{len(losses)} kills: " + ", ".join(f"{sum(f': {kind}: ' in w for w in wrong)} {kind}" for kind in kinds))
    return 1 if wrong else 0


def losses_of(conductor: Conductor) -> list[Loss]:
    """The cost of each kill of an act, from the trace."""
    strikes = sorted(conductor.strikes(), key=lambda kill: _when(conductor, kill))
    times = [_when(conductor, kill) for kill in strikes]
    trace = trace_of(conductor.plan)
    lines = [json.loads(line) for line in trace.read_text().splitlines()] if trace.exists() else []
    curves = ((at, *of.split("/"), step) for at, _, stage, of, step in lines if stage == "append_done")
    steps = sorted((at, trial, step) for at, trial, file, step in curves if file == CURVE_FILE)
    before: dict[str, tuple[float, int]] = {}
    again, waited = defaultdict[int, list[int]](list), dict[int, float]()
    for at, trial, step in steps:
        last_at, last = before.get(trial, (at, 0))
        before[trial] = (at, step)
        if step <= last:
            cause = _cause(strikes, times, trial, last_at, at)
            again[cause].append(last - step + 1)
            waited[cause] = max(at - times[cause], waited.get(cause, 0.0))
    for index, when in enumerate(times):
        waited.setdefault(index, next((at - when for at, _, _ in steps if at > when), 0.0))
    return [
        Loss(kill, sum(again[index]), max(again[index], default=0), waited[index]) for index, kill in enumerate(strikes)
    ]


def _cause(strikes: list[Kill], times: list[float], trial: str, last_at: float, at: float) -> int:
    # The kill that made a trial go back: the trial's own, at its last step or later, else the last one before.
    # An orphaned process lives on for a moment, so a step may come after the kill that made it void.
    near = [i for i, when in enumerate(times) if last_at - ORPHANED_SECONDS <= when < at]
    own = [i for i in near if trial in strikes[i].of]
    if not near:
        raise ChaosError(f"{trial} went back at {last_at} and nothing had been killed")
    return (own or near)[0]


def _when(conductor: Conductor, kill: Kill) -> float:
    # Converted to the monotonic clock of the trace.
    done = marker(conductor.plan, kill, "done")
    struck = done if done.exists() else marker(conductor.plan, kill, "claimed")
    return time.monotonic() - (time.time() - struck.stat().st_mtime)


def table(losses: list[Loss], who: dict[str, str]) -> str:
    """A table of kills by process and place, with their costs."""
    rows = defaultdict(list)
    for loss in losses:
        place = f"{loss.kill.stage} {_file_kind(loss.kill)}".rstrip()
        rows[who[loss.kill.name], place].append(loss)
    text = [f"{'killed':<12} {'at':<36} {'kills':>5} {'steps again':>12} {'seconds to go on':>17}"]
    for (process, place), group in sorted(rows.items()):
        waited = f"{statistics.median(loss.seconds for loss in group):.1f}"
        steps = "+".join(str(loss.steps) for loss in group)
        text.append(f"{process:<12} {place:<36} {len(group):>5} {steps:>12} {waited:>17}")
    return "\n".join(text)


def _file_kind(kill: Kill) -> str:
    if kill.target == NODE or kill.of.startswith("t0"):
        return "/".join(kill.of.split("/")[1:2])
    return kill.of.split(" ")[0] if " " in kill.of else kill.of


if __name__ == "__main__":
    sys.exit(main())
