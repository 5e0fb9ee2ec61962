"""What crash recovery costs: seconds from `--resume` to the first new steps, and checkpoints' share of the steps.

Resuming: a sweep's driver is killed once its trial has saved a state. Copies of its folder are resumed one by one,
until the trial's curve grows; then that driver is interrupted. The parts: until the ledger has the start (imports,
Ray), until the search has proposed the trial again, until the lane has loaded model and state and reports steps.

Stalls: one trial in one process, with checkpoints and states but no held-out scores, in turn on three sides: written
asynchronously, as lanes do; written between the steps; not written. A stall is the loop's wait in a checkpoint; the
writer's effect on the steps shows in the epoch.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import PROJECT, environment, machine, parser, prepare, print_result, rounded, say
from benchmarks.stalls import SIDES, Epoch, summary
from benchmarks.stalls import epoch as one_epoch
from sweeps.ledger.ledger import Ledger
from trainables.config.trial_spec import LaneConfig
from trainables.lane.warm_state import LaneState
from trainables.optim.workers import SOLO

LONGEST_SECONDS = 600.0  # then a sweep that hangs fails the benchmark

Figures = dict[str, Any]


def main() -> None:
    options = parse()
    result: Figures = {"benchmark": "resume", "machine": machine(), "options": vars(options)}
    with tempfile.TemporaryDirectory(prefix="resume-", dir=options.folder, ignore_cleanup_errors=True) as folder:
        for method in options.methods:
            result[method] = stalls(Path(folder), method, options)
        if options.resumes:
            result["resume"] = resumes(Path(folder), options)
    print_result(result)


def parse() -> argparse.Namespace:
    command = parser("resume", str(__doc__).partition("\n")[0], "--resumes 1 --methods lora")
    command.add_argument("--resumes", type=int, default=3, help="how often the killed sweep is resumed")
    command.add_argument("--config", default="conf/smoke.yaml", help="the sweep that is killed and resumed")
    command.add_argument("--methods", nargs="*", default=["lora", "full"], help="of the stalls: lora, full")
    command.add_argument("--model-config", default="conf/demo.yaml", help="whose model and data the stalls are with")
    command.add_argument("--rounds", type=int, default=3, help="how often the sides run in turn")
    command.add_argument("--steps", type=int, default=24, help="steps of a trial")
    command.add_argument("--checkpoints", type=int, default=3, help="checkpoints of a trial, one at its end")
    command.add_argument("--threads", type=int, default=2, help="CPU threads")
    command.add_argument("--folder", help="where to write; a local disk tells most")
    return command.parse_args()


def stalls(folder: Path, method: str, options: argparse.Namespace) -> Figures:
    """Medians over rounds of step seconds, stalls and epochs of the three sides."""
    points = [k / options.checkpoints for k in range(1, options.checkpoints + 1)]
    settings = lane(folder, f"stalls-{method}", method, points, options)
    torch.set_num_threads(options.threads)
    lane_state = LaneState.load(settings, torch.device("cuda" if torch.cuda.is_available() else "cpu"), SOLO)

    def epoch(side: str) -> Epoch:
        place = folder / f"{method}-{side}"
        return one_epoch(lane_state.loop, lane_state.data, settings, lane_state.writer, side, place)

    epoch("none")  # warms up
    rounds: dict[str, list[Epoch]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        for side in SIDES:
            rounds[side].append(epoch(side))
            say(f"{method}, round {number + 1} of {options.rounds}, {side}: {rounded(rounds[side][-1])}")
    return summary(rounds, options.steps, options.checkpoints)


def lane(folder: Path, name: str, method: str, points: list[float], options: argparse.Namespace) -> LaneConfig:
    space = ["space.peak_lr=2e-5", "space.warmup_fraction=0.1", "space.decay_floor=4e-6"]
    overrides = [
        *(f"storage_path={folder}", f"name={name}", f"model.method={method}", "space.beyond_recommended=benchmark"),
        *(f"training.checkpoints_at={points}", f"data.limit={options.steps * 4}", "training.batch_size=4", *space),
    ]
    return prepare(options.model_config, overrides, options.threads)[1]


def resumes(folder: Path, options: argparse.Namespace) -> Figures:
    """Kills a sweep's driver and resumes copies of its folder."""
    overrides = ["data.limit=400", "search.trials=1", "training.checkpoints_at=[0.2,1.0]"]
    run = [options.config, f"storage_path={folder}", "name=killed", *overrides]
    process = start(*run)
    state = folder / "killed" / "trials" / "t0001" / "state"
    wait_for(lambda: any(state.glob("step-*/COMPLETE")), process)
    process.kill()
    process.wait()
    time.sleep(10)  # for Ray to notice that its driver is gone
    found = []
    for number in range(options.resumes):
        copy = folder / f"resumed-{number}" / "killed"
        shutil.copytree(folder / "killed", copy)
        found.append(resume(copy))
        say(f"resumed: {found[-1]}")
    return {name: statistics.median(one[name] for one in found) for name in found[0]} | {"rounds": found}


def resume(folder: Path) -> Figures:
    """Seconds until the trial's curve grows, by part."""
    state = next((folder / "trials" / "t0001" / "state").glob("step-*"))
    done, curve = int(state.name.removeprefix("step-")), folder / "trials" / "t0001" / "curve.jsonl"
    events = len(Ledger(folder).read()[0])
    started = time.time()
    process = start("--resume", str(folder))
    try:
        # The curve is cut at the state first, then grows.
        wait_for(lambda: lines(curve) <= done, process)
        wait_for(lambda: lines(curve) > done, process)
        seconds, steps = time.time() - started, lines(curve) - done
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
    times = {event["event"]: event["unix_seconds"] - started for event in Ledger(folder).read()[0][events:]}
    begun, proposed = times["sweep_started"], times["trial_submitted"]
    return {
        "seconds": round(seconds, 2),
        "until_started": round(begun, 2),
        "until_proposed": round(proposed - begun, 2),
        "until_steps": round(seconds - proposed, 2),
        "new_steps": steps,
    }


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def start(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sweeps.run", *arguments]
    return subprocess.Popen(
        command, cwd=PROJECT, env=environment(1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not ready():
        if time.monotonic() > deadline or process.poll() is not None:
            raise RuntimeError("the sweep ended before, or took too long")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
