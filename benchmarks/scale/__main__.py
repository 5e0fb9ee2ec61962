"""What a large sweep costs beyond its training: dispatcher, ledger and search, with lanes whose steps only take time.

Dispatcher, search with its study, and recorder with ledger and `trials.jsonl` (synced to disk) are the real ones, each
on a thread of its own in one process, without Ray. Lanes and Tune trials are coroutines that call the dispatcher as the
real ones do. The figures are CPU time, which a busy machine changes little. Not measured: Ray's calls, Tune and W&B.

Two more parts: the samplers in a study of many ended trials, and a resumed sweep's reading of a long ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from benchmarks.common import machine, parser, print_result, say
from benchmarks.scale.simulation import BASE, CHECKPOINTS, Simulation, config_in
from sweeps.config.sweep_config import SweepConfig
from sweeps.driver.recorder import trial_record
from sweeps.driver.recovery import recover
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.ledger import Ledger, seal
from sweeps.search.optuna_search import Beginning, Launch, SweepSearch
from sweeps.search.search_space import UnitCube, distributions
from sweeps.search.tell import TrialOutcome, frozen
from trainables.config.trial_spec import TrialSpec
from trainables.storage.layout import LEDGER_FILE
from trainables.storage.working_copy import WorkingCopy

MOST_SHARE = 0.01  # target: CPU time of the driver as a share of wall time


def main() -> None:
    options = parse()
    result: dict[str, Any] = {"benchmark": "scale", "machine": machine(), "options": vars(options), "sweeps": []}
    for lanes in options.lanes:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            config = config_in(Path(folder), "random", lanes * options.trials_per_lane)
            simulation = Simulation(config, lanes, options.steps, options.step_seconds)
            result["sweeps"].append(asyncio.run(simulation.run()))
        say(json.dumps(result["sweeps"][-1]))
    result["share_target"] = MOST_SHARE
    result["cpu_ms_to_propose"] = {
        sampler: {str(done): proposal_ms(sampler, done) for done in options.trials_done}
        for sampler in ("gp", "tpe", "random")
    }
    result["cpu_seconds_to_recover"] = {str(trials): recovery_seconds(trials) for trials in options.recovered}
    print_result(result)


def parse() -> argparse.Namespace:
    command = parser("scale", str(__doc__).partition("\n")[0], "--lanes 64 --steps 100")
    command.add_argument("--lanes", type=int, nargs="+", default=[8, 64, 256], help="sizes, one sweep each")
    command.add_argument("--trials-per-lane", type=int, default=4, help="trials of each sweep, in lanes")
    command.add_argument("--steps", type=int, default=100, help="steps of a trial")
    command.add_argument("--step-seconds", type=float, default=0.1, help="what a step takes")
    command.add_argument("--trials-done", type=int, nargs="*", default=[16, 64, 256], help="sizes of the studies")
    command.add_argument("--recovered", type=int, nargs="*", default=[100, 1000, 10000], help="trials of a ledger")
    return command.parse_args()


def proposal_ms(sampler: str, done: int, asked: int = 3) -> float:
    """Mean CPU-ms of a proposal in a study of `done` ended trials."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        config = config_in(Path(folder), sampler, done + asked)
        beginning = Beginning(history=history(config, done), submitted=done)
        search = SweepSearch(config, BASE, Launch({}, lambda _: None), beginning)
        started = time.process_time()
        for number in range(asked):
            search.suggest(str(number))
        found = 1e3 * (time.process_time() - started) / asked
    say(f"{sampler}: {found:.0f} CPU-ms to propose after {done} trials")
    return round(found, 1)


def recovery_seconds(trials: int) -> float:
    """CPU seconds of a resumed sweep for reading a ledger of ended trials and rebuilding the study."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        config = config_in(Path(folder), "random", trials)
        areas = {name: {"nll": 2.0, "exact_match": 0.5, "items": 60} for name in config.heldout.areas}
        points = [{"step": 20 * number, "areas": areas, "path": "p"} for number in range(1, CHECKPOINTS + 1)]
        events = [{"event": "baseline", "areas": areas}]
        for trial in history(config, trials):
            spec = TrialSpec(trial_id=trial.user_attrs["trial_id"], seed=0, params=trial.params).model_dump()
            end = {"job_id": spec["trial_id"], "work": None, "attempt": 1, "end": {"state": "complete", "spec": spec}}
            record = {**trial_record(end), "checkpoints": points}
            events += [{"event": "trial_submitted", "spec": spec}, {"event": "trial_ended", "trial": record}]
        (config.folder / LEDGER_FILE).write_text("".join(seal(event) for event in events))
        started = time.process_time()
        past = recover(
            config,
            SweepStore(WorkingCopy(config.folder)),
            Ledger.of_new_driver(config.folder),
            Console(file=io.StringIO()),
        )
        found = time.process_time() - started
    assert len(past.ended) == trials, f"{len(past.ended)} of {trials} trials came back"
    say(f"{found:.1f} CPU seconds to recover {trials} trials")
    return round(found, 2)


def history(config: SweepConfig, done: int) -> list[FrozenTrial]:
    """Random ended trials with a noisy bowl as objective."""
    space, draw = distributions(config), np.random.default_rng(0)
    cube, points = UnitCube(space), draw.random((done, len(space)))
    values = 2.0 + ((points - 0.4) ** 2).sum(axis=1) + draw.normal(0.0, 0.02, done)
    return [
        frozen(
            TrialOutcome(TrialState.COMPLETE, float(value)),
            cube.from_unit(point),
            space,
            {},
            {"trial_id": f"t{number:04d}"},
        )
        for number, (point, value) in enumerate(zip(points, values, strict=True), start=1)
    ]


if __name__ == "__main__":
    main()
