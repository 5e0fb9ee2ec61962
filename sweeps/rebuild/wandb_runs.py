"""W&B runs of an ended sweep, from its files: for runs that were never uploaded, or are lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from analysis.records.sweep import Sweep, Trial, read_sweep
from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.folder.origin import manifest_of
from trainables.config.sections import WandbConfig
from trainables.config.trial_spec import TrialSpec
from trainables.errors import UserError
from trainables.storage.layout import SWEEP_FILE
from trainables.tracking.run_facts import best_objective, mean_row, resolved_config
from trainables.tracking.wandb_run import Tracker, close_service
from trainables.training.curve_recorder import StepRecord

TIMEOUT_SECONDS = 60.0


def write_runs(folder: Path, out: Path) -> int:
    """Writes one offline run for each trial that ended, into a new folder; returns the number of runs.

    Args:
        folder: The sweep's folder.
        out: A folder that does not exist yet; the runs go to `wandb/` in it.

    Raises:
        UserError: The folder exists, or W&B could not write a run.
    """
    if out.exists():
        raise UserError("--wandb", "must be a new folder", out, "name another: its runs would be written twice")
    sweep, config = read_sweep(folder), load_config(folder / SWEEP_FILE)
    offline = config.wandb.model_copy(update={"mode": "offline"})
    # The new folder has an id of its own, so the runs are new ones. W&B would add the same rows again to a run that it
    # has, and takes no id twice, not even of a deleted run.
    for trial in sweep.trials:
        _write_run(sweep, config, trial, offline, out)
    close_service()
    return len(sweep.trials)


def _write_run(sweep: Sweep, config: SweepConfig, trial: Trial, wandb: WandbConfig, out: Path) -> None:
    curve, _ = sweep.curve(trial.trial_id)
    names = ("trial_id", "params", "drawn", "kind", "replicate_of")
    spec = TrialSpec.model_validate({**{name: getattr(trial, name) for name in names}, "seed": trial.seed or 0})
    tracker = Tracker(wandb, sweep.name, str(out))
    hashes = manifest_of(sweep.folder).get("data_sha256") or {}
    settings = resolved_config(config.model, config.trial_training, spec.params, hashes)
    tracker.start(spec, {**settings, "steps": trial.steps_planned}, sweep.measure, sweep.statement)
    if sweep.baseline:
        tracker.areas(0, sweep.baseline, None, mean_row(sweep.baseline, sweep.weights, sweep.measure))
    tracker.steps([_step(row) for row in curve])
    for line in sweep.speed(trial.trial_id):
        tracker.speed(line)
    means = []
    for point in trial.checkpoints:
        means.append(mean_row(point["areas"], sweep.weights, sweep.measure))
        tracker.areas(point["step"], point["areas"], sweep.baseline, means[-1])
    best = best_objective(means, sweep.measure)
    tracker.finish(trial.state, {"objective": best, "findings": len(trial.findings)})
    if not tracker.wait(TIMEOUT_SECONDS) or tracker.off:
        raise UserError("--wandb", "W&B must be able to write the runs", trial.trial_id, "see the warning above")


def _step(row: dict[str, Any]) -> StepRecord:
    known: dict[str, Any] = {name: row.get(name) for name in StepRecord.__dataclass_fields__}
    # `curve.jsonl` holds null where the loop had NaN or infinity: JSON can't write them.
    numbers = {name: math.nan for name in ("loss", "grad_norm") if row[name] is None}
    return StepRecord(**{**known, **numbers})
