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
from torch import nn

from benchmarks.common import PROJECT, environment, machine, parser, prepare, print_result, rounded, say
from sweeps.ledger.ledger import Ledger
from trainables.checkpoints import checkpoint, training_state
from trainables.checkpoints.async_writer import Pending
from trainables.checkpoints.training_state import TrainingState
from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.lane.warm_state import LaneState
from trainables.optim.workers import SOLO
from trainables.training.trial_run import Hooks, TrialRun

PARAMS = {"peak_lr": 2e-5, "warmup_fraction": 0.1, "decay_floor": 4e-6}
SIDES = ("async", "between", "none")
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
    epoch(lane_state, "none", folder)  # warms up
    rounds: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        for side in SIDES:
            rounds[side].append(epoch(lane_state, side, folder / f"{method}-{side}"))
            say(f"{method}, round {number + 1} of {options.rounds}, {side}: {rounded(rounds[side][-1])}")
    step = statistics.median(seconds for seconds, _ in rounds["none"]) / options.steps
    found: Figures = {"step_seconds": round(step, 4), "steps_a_checkpoint": options.steps / options.checkpoints}
    for side in SIDES:
        stall = statistics.median(stalled for _, stalled in rounds[side])
        found[side] = {
            "epoch_seconds": rounded([seconds for seconds, _ in rounds[side]]),
            "stall_seconds_a_checkpoint": round(stall / options.checkpoints, 4),
            "stall_share_of_steps": round(stall / (step * options.steps), 4),
        }
    return found


def lane(folder: Path, name: str, method: str, points: list[float], options: argparse.Namespace) -> LaneConfig:
    space = ["space.peak_lr=2e-5", "space.warmup_fraction=0.1", "space.decay_floor=4e-6"]
    overrides = [
        *(f"storage_path={folder}", f"name={name}", f"model.method={method}", "space.beyond_recommended=benchmark"),
        *(f"training.checkpoints_at={points}", f"data.limit={options.steps * 4}", "training.batch_size=4", *space),
    ]
    return prepare(options.model_config, overrides, options.threads)[1]


def epoch(lane_state: LaneState, side: str, folder: Path) -> tuple[float, float]:
    """Trains a trial; returns seconds until everything is written, and seconds of waiting in checkpoints."""
    stalled, pending = [0.0], Pending(lane_state.writer)

    def write(tensors: dict[str, torch.Tensor], act: Callable[[dict[str, torch.Tensor]], object]) -> None:
        pending.submit(tensors, act)
        if side == "between":
            pending.settle()

    def timed(act: Callable[[], None]) -> None:
        started = time.perf_counter()
        if side != "none":
            act()
        stalled[0] += time.perf_counter() - started

    def on_checkpoint(step: int, model: nn.Module) -> None:
        def act() -> None:
            saved, place = checkpoint.weights_of(model), folder / f"step-{step}"
            write(saved.tensors, lambda tensors: checkpoint.save_weights(saved, tensors, place, {}))

        timed(act)

    def on_kept(step: int, learnt: dict[str, torch.Tensor]) -> None:
        states = folder / "state"
        timed(lambda: write(learnt, lambda t: training_state.save(states, TrainingState(step, t, {}))))

    hooks = Hooks(lambda records: None, on_checkpoint, lambda: False, on_kept)
    spec = TrialSpec(trial_id="timed", seed=0, params=PARAMS)
    started = time.perf_counter()
    outcome = lane_state.loop.train(TrialRun(lane_state.data, spec, lane_state.settings, hooks))
    seconds = time.perf_counter() - started
    pending.settle()
    assert outcome.state == "complete", outcome
    shutil.rmtree(folder, ignore_errors=True)
    return seconds, stalled[0]


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
