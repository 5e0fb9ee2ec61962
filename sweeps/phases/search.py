"""The search: Ray Tune with Optuna's proposals over the running lanes."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from sweeps.config.sweep_config import SweepConfig
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.lanes.cluster import NAMESPACE
from sweeps.lanes.lanes import Lanes
from sweeps.search.optuna_search import METRIC, Beginning, Launch, NeverRestored, SweepSearch
from sweeps.search.tell import as_trials
from sweeps.search.tune_trial import SweepTrial
from sweeps.search.warm_start import read_warm_start
from trainables.evaluation.objective import objective

EPOCH_POINTS = 100


def search_trials(sweep: Sweep, supervisor: Supervisor, baseline: dict[str, dict[str, Any]]) -> None:
    """Runs all trials of the search that have not ended yet, or as many as there is time for.

    Raises:
        LanesFailedError: Lanes end again and again.
    """
    trials = sweep.config.search.trials - len(sweep.past.searched)
    if trials <= 0:
        return
    supervisor.expect(trials)
    search = make_search(sweep, supervisor, baseline)
    try:
        make_tuner(sweep.config, supervisor, search, trials).fit()
    finally:
        supervisor.lanes.drain()
        supervisor.recorder.collect()
        search.close()
    supervisor.check()


def make_search(sweep: Sweep, supervisor: Supervisor, baseline: dict[str, Any]) -> SweepSearch:
    """Optuna over the config's space; each proposal goes to the ledger and the live view."""
    config, past = sweep.config, sweep.past
    base_objective = objective(baseline, config.heldout.weights)
    earlier = read_warm_start(config, baseline)
    for source in earlier:
        supervisor.say(source.words())
        sweep.ledger.append("warm_start", **source.summary())
    history = [trial for source in earlier for trial in source.trials]
    search = SweepSearch(
        config,
        base_objective,
        Launch(
            trial_config={
                "lanes": supervisor.lanes.name,
                "namespace": NAMESPACE,
                "work": {"do": "trial", "baseline": baseline, "slots": supervisor.slots},
            },
            on_submitted=supervisor.submitted,
            room=lambda: supervisor.lanes.up * supervisor.slots,
        ),
        Beginning(
            points=sweep.plan.seed_points,
            history=[*history, *as_trials(past.ended, config, base_objective, history)],
            unfinished=past.unfinished,
            submitted=past.submitted,
        ),
    )
    if supervisor.pruner:
        search.predictions = supervisor.pruner.predictions
    return search


def make_tuner(config: SweepConfig, supervisor: Supervisor, search: SweepSearch, trials: int) -> tune.Tuner:
    """A Tuner whose trials own nothing: lanes hold the GPUs and CPUs.

    Args:
        config: The sweep.
        supervisor: Who looks at running trials; its lanes train them.
        search: Who proposes settings.
        trials: Trials that are left to do.
    """
    lanes = supervisor.lanes
    trainable = tune.with_resources(SweepTrial, tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}]))
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=make_trial_scheduler(config),
            num_samples=trials,
            max_concurrent_trials=trials if lanes.grows else len(lanes.threads) * supervisor.slots,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(lanes.scratch),
            callbacks=[CancelEndedTrials(lanes)],
            stop=StopAll(supervisor),
            failure_config=tune.FailureConfig(max_failures=config.resources.max_failures),  # of Tune's own process
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
        case "none" | "evidence":  # the latter works beside Tune: `sweeps.pruning.pruner`
            return FIFOScheduler()


class CancelEndedTrials(NeverRestored, tune.Callback):
    """Frees a trial's lane when Tune is done with the trial; its actor may be another trial's by then."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Also called for a trial that the trial scheduler stopped."""
        self.lanes.cancel(trial.config["spec"]["trial_id"], "pruned")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The Tune actor died again and again; its trial must not train on."""
        self.lanes.cancel(trial.config["spec"]["trial_id"], "failed")


class StopAll(NeverRestored, tune.Stopper):
    """Ends the search when the user interrupts, the budget is spent or the lanes fail.

    Args:
        supervisor: Knows whether to stop.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never stops a single trial."""
        return False

    def stop_all(self) -> bool:
        """Asked by Tune again and again; lanes are told first, so that trials end as interrupted, not as pruned."""
        return self.supervisor.stopped()
