"""The stock side of `benchmarks.overhead`: a Tune trial that calls `TorchTrainer.fit()`, Ray's settings as they come.

The worker loads model and data and then does the very job that a lane does: the same loop, held-out scores, checkpoint,
curve and W&B run.

Usage: python -m benchmarks.overhead.stock SETTINGS TRIALS; the last line printed is JSON: `startup_seconds`, and
`ended`, the seconds from the start of `Tuner.fit()` to each trial's end.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import train, tune
from ray.train.torch import TorchTrainer, get_device
from ray.tune.integration.ray_train import TuneReportCallback


def main(settings_path: str, trials: str) -> None:
    """Runs the trials one by one on a local Ray."""
    settings = json.loads(Path(settings_path).read_text())
    started = time.perf_counter()
    ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=True)
    startup = time.perf_counter() - started
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="stock-", ignore_cleanup_errors=True) as storage:
        space = {
            "settings": settings,
            "storage": storage,
            "use_gpu": ray.cluster_resources().get("GPU", 0) > 0,
            "peak_lr": tune.loguniform(1e-3, 1e-2),
            "warmup_fraction": tune.uniform(0.03, 0.10),
            "decay_floor": tune.loguniform(5e-4, 8e-4),
        }
        tuner = tune.Tuner(
            trial,
            param_space=space,
            tune_config=tune.TuneConfig(
                num_samples=int(trials), max_concurrent_trials=1, metric="objective", mode="min"
            ),
            run_config=tune.RunConfig(name="tune", storage_path=storage, callbacks=[watch], verbose=0),
        )
        watch.start()
        results = tuner.fit()
    ray.shutdown()
    assert not results.errors, results.errors
    print(json.dumps({"startup_seconds": startup, "ended": watch.ended}))


class Watch(tune.Callback):
    """Records the end of each trial in `ended`, seconds since `start`."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.started = 0.0

    def start(self) -> None:
        self.started = time.perf_counter()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended.append(time.perf_counter() - self.started)


def trial(config: dict[str, Any]) -> None:
    """A Tune trial with a Ray Train run of its own."""
    trial_id = tune.get_context().get_trial_id()
    report: Any = TuneReportCallback()
    trainer = TorchTrainer(
        worker,
        train_loop_config={**config, "trial_id": trial_id},
        scaling_config=train.ScalingConfig(num_workers=1, use_gpu=config["use_gpu"]),
        run_config=train.RunConfig(
            name=f"train-{trial_id}",
            storage_path=config["storage"],
            callbacks=[report],
        ),
    )
    trainer.fit()


def worker(config: dict[str, Any]) -> None:
    """Loads model and data, trains the trial as a lane does, and reports its objective."""
    import torch

    from trainables.config.trial_spec import LaneConfig, TrialSpec
    from trainables.lane.trial_job import TrialJob
    from trainables.lane.warm_state import LaneState
    from trainables.optim.workers import SOLO
    from trainables.tracking.wandb_run import close_service

    settings = LaneConfig.model_validate(config["settings"])
    torch.set_num_threads(settings.threads)
    lane_state = LaneState.load(settings, get_device(), SOLO)
    params = {name: config[name] for name in ("peak_lr", "warmup_fraction", "decay_floor")}
    spec = TrialSpec(trial_id=config["trial_id"], seed=0, params=params)
    work = {"do": "trial", "spec": spec.model_dump(), "baseline": {}}
    job = TrialJob(lane_state, work, report=lambda message: None, should_stop=lambda: False)
    end = job.end(lane_state.loop.train(job.begin()))
    job.pending.settle()
    close_service()
    train.report({"objective": end["checkpoints"][-1]["objective"]})


if __name__ == "__main__":
    main(*sys.argv[1:])
