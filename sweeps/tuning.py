"""The search: Ray Tune with Optuna's proposals over the running lanes."""

from __future__ import annotations

import threading
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from sweeps.cluster import NAMESPACE
from sweeps.config import SweepConfig
from sweeps.interrupt import Interrupt
from sweeps.lanes import Lanes
from sweeps.progress import Progress
from sweeps.recorder import Recorder
from sweeps.resume import as_optuna
from sweeps.search import METRIC, NeverRestored, SweepSearch
from sweeps.sweep import Sweep
from sweeps.trial import SweepTrial
from trainables.config import TrialSpec
from trainables.heldout import objective

SHOW_EVERY_SECONDS = 0.5
EPOCH_POINTS = 100


def search_trials(sweep: Sweep, lanes: Lanes, baseline: dict[str, dict[str, Any]]) -> None:
    """Runs all trials that have not ended yet.

    Returns when they have ended and are recorded, or when the user interrupted.

    Raises:
        LanesFailedError: Lanes end again and again.
    """
    trials = sweep.config.search.trials - len(sweep.past.ended)
    if trials <= 0:
        return
    recorder = Recorder(lanes, sweep.ledger, sweep.config.folder)
    recorder.start()
    with Progress(trials, sweep.console) as progress:
        monitor = Monitor(lanes, recorder, progress, sweep.interrupt)
        monitor.start()
        search = make_search(sweep, lanes, baseline, progress)
        try:
            make_tuner(sweep.config, lanes, search, trials, monitor).fit()
        finally:
            lanes.drain()
            monitor.finish()
            recorder.finish()
            search.close()
            progress.show(lanes.call("status"))
    monitor.check()


def make_search(sweep: Sweep, lanes: Lanes, baseline: dict[str, Any], progress: Progress) -> SweepSearch:
    """Optuna over the config's space; each proposal goes to the ledger and the live view."""

    def on_submitted(spec: TrialSpec) -> None:
        sweep.ledger.append("trial_submitted", spec=spec.model_dump())
        progress.add(spec)

    config, past = sweep.config, sweep.past
    base_objective = objective(baseline, {name: area.weight for name, area in config.heldout.areas.items()})
    return SweepSearch(
        config,
        points=sweep.plan.seed_points,
        base_objective=base_objective,
        trial_config={"lanes": lanes.name, "namespace": NAMESPACE, "baseline": baseline},
        on_submitted=on_submitted,
        history=[as_optuna(record, config, base_objective) for record in past.ended],
        unfinished=past.unfinished,
        submitted=past.submitted,
    )


def make_tuner(config: SweepConfig, lanes: Lanes, search: SweepSearch, trials: int, monitor: Monitor) -> tune.Tuner:
    """A Tuner whose trials own nothing: lanes hold the GPUs and CPUs."""
    trainable = tune.with_resources(SweepTrial, tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}]))
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=make_trial_scheduler(config),
            num_samples=trials,
            max_concurrent_trials=len(lanes.threads) * config.resources.trials_per_lane,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(lanes.scratch),
            callbacks=[CancelEndedTrials(lanes)],
            stop=StopAll(lanes, monitor),
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    )


def make_trial_scheduler(config: SweepConfig) -> TrialScheduler:
    """Who stops trials. One that pauses or perturbs a trial would break its one epoch: none such is offered."""
    match config.search.trial_scheduler:
        case "asha":
            return AsyncHyperBandScheduler(
                time_attr="epoch_percent", metric=METRIC, mode="min", max_t=EPOCH_POINTS, grace_period=EPOCH_POINTS // 4
            )
        case "median":
            return MedianStoppingRule(
                time_attr="epoch_percent",
                metric=METRIC,
                mode="min",
                grace_period=EPOCH_POINTS // 4,
                min_samples_required=2,
            )
        case "none":
            return FIFOScheduler()


class CancelEndedTrials(NeverRestored, tune.Callback):
    """Frees a trial's lane when Tune is done with it: a reused actor is not cleaned up in between."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Also called for a trial that the trial scheduler stopped."""
        self.lanes.call("cancel", trial.config["spec"]["trial_id"], "pruned")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The Tune actor died; its trial must not train on."""
        self.lanes.call("cancel", trial.config["spec"]["trial_id"], "failed")


class StopAll(NeverRestored, tune.Stopper):
    """Ends the search when the user interrupts or the lanes fail.

    Args:
        lanes: Told first, so that trials end as interrupted, not as pruned.
        monitor: Knows whether to stop.
    """

    def __init__(self, lanes: Lanes, monitor: Monitor) -> None:
        self.lanes, self.monitor = lanes, monitor

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never stops a single trial."""
        return False

    def stop_all(self) -> bool:
        """Asked by Tune again and again."""
        if self.monitor.should_stop():
            self.lanes.call("interrupt")
            return True
        return False


class Monitor(threading.Thread):
    """Looks after a running search: draws the live view, checks lanes and recorder.

    Args:
        lanes: The lanes.
        recorder: Its errors end the search.
        progress: The live view.
        interrupt: Set by the user.
    """

    def __init__(self, lanes: Lanes, recorder: Recorder, progress: Progress, interrupt: Interrupt) -> None:
        super().__init__(daemon=True, name="monitor")
        self.lanes, self.recorder, self.progress, self.interrupt = lanes, recorder, progress, interrupt
        self.failure: BaseException | None = None
        self._finishing = threading.Event()

    def run(self) -> None:
        """Checks and draws until `finish`; keeps an error for `check`."""
        try:
            while not self._finishing.wait(SHOW_EVERY_SECONDS):
                status = self.lanes.call("status")
                self.progress.show(status)
                self.lanes.check(status)
                self.recorder.check()
        except BaseException as error:  # noqa: BLE001 - raised again in the driver's thread, by `check`
            self.failure = error

    def should_stop(self) -> bool:
        """Whether the search should end now."""
        return self.interrupt.is_set() or self.failure is not None

    def finish(self) -> None:
        """Ends the thread."""
        self._finishing.set()
        self.join()

    def check(self) -> None:
        """Raises here what went wrong on the monitor's thread."""
        if self.failure:
            raise self.failure
