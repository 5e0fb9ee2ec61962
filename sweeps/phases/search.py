"""The search: Ray Tune runs Optuna's proposals on the lanes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from sweeps.config.pausing import PAUSE_AT, epochs_to_train
from sweeps.config.sweep_config import SweepConfig
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.lanes.cluster import NAMESPACE
from sweeps.lanes.lanes import Lanes
from sweeps.ledger.history import GO_ON
from sweeps.ledger.ledger import EPOCH
from sweeps.ledger.trial_record import Areas, TrialRecord, spec_of
from sweeps.search.distinct import Settings, distinct_words
from sweeps.search.optuna_search import METRIC, Beginning, Launch, NeverRestored, SweepSearch
from sweeps.search.paused_trials import PausedTrials
from sweeps.search.search_space import distributions
from sweeps.search.study import warm_trials
from sweeps.search.tell import as_trials
from sweeps.search.tune_trial import SweepTrial
from sweeps.search.warm_start import read_warm_start
from trainables.diagnostics.finding import Evidence, Finding
from trainables.evaluation.objective import objectives_by_step

EPOCH_POINTS = 100  # `epoch_percent` counts to it
WAIT_SECONDS = 5.0


def search_trials(sweep: Sweep, supervisor: Supervisor, baseline: Areas) -> None:
    """Runs the trials of the search that have not ended yet, until done or told to stop.

    Raises:
        LanesFailedError: Lanes end again and again.
    """
    trials = sweep.config.search.trials - len(sweep.past.searched)
    if trials <= 0:
        supervisor.to_come = lambda: 0
        return
    planned = sweep.config.search.trials
    each = epochs_to_train(planned) / planned if sweep.config.trials_pause else 1.0
    search = make_search(sweep, supervisor, baseline)
    new, paused = search.remaining, len(sweep.past.paused)
    if (distinct := search.tried.distinct) is not None and new < trials - paused:
        trials = new + paused
        words = distinct_words(distinct, planned, sweep.config.search.seeds)
        sweep.ledger.append("space_is_small", settings=distinct, left=trials)
        supervisor.say(f"{words}; {trials or 'none'} {'is' if trials == 1 else 'are'} left to train")
    supervisor.expect(trials, trials * each)
    supervisor.to_come = lambda: search.to_come
    try:
        if trials > 0:
            make_tuner(sweep.config, supervisor, search, trials).fit()
    finally:
        supervisor.to_come = lambda: 0  # what comes later is submitted at once
        # Tune returns before a cancelled trial's lane has finished; its end must be recorded before the ranking.
        supervisor.lanes.drain()
        supervisor.recorder.collect()
        search.close()
    supervisor.check()


def make_search(sweep: Sweep, supervisor: Supervisor, baseline: Areas) -> SweepSearch:
    """Sets up Optuna over the config's space, with the history of earlier sweeps and starts."""
    config, past = sweep.config, sweep.past
    base_objective = config.objective.measure.objective(baseline, config.heldout.weights)
    history = warm_start(sweep, supervisor, baseline)
    paused = PausedTrials.of_past(past, config.heldout.weights)
    paused_records = paused.with_predictions(past.paused.values())
    for record in paused_records:
        supervisor.progress.add(spec_of(record))
    return SweepSearch(
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
            affordable=supervisor.affordable,
            on_chosen=lambda chosen, others: let_go_on(sweep, supervisor, chosen, others),
        ),
        Beginning(
            points=sweep.plan.seed_points,
            history=[*history, *as_trials([*past.ended, *paused_records], config, base_objective, history, past.times)],
            unfinished=past.unfinished,
            submitted=past.submitted,
            left=config.search.trials - len(past.searched) - len(past.paused),
            paused=paused,
            settings=Settings(config, sweep.plan.train.samples),
            tried=[spec_of(record) for record in (*past.searched, *past.paused.values())],
        ),
        stopped=sweep.stopped,
    )


def warm_start(sweep: Sweep, supervisor: Supervisor, baseline: Areas) -> list[FrozenTrial]:
    """Trials of earlier sweeps, as the first start that searched read them: those sweeps may have gone on, or away."""
    events = [event for event in sweep.ledger.read()[0] if event["event"] == "warm_start"]
    starts, wanted = Counter(event[EPOCH] for event in events), len(sweep.config.search.warm_start)
    whole = [epoch for epoch, read in starts.items() if read == wanted]
    if whole:
        return warm_trials([event for event in events if event[EPOCH] == whole[0]], distributions(sweep.config))
    earlier = read_warm_start(sweep.config, baseline)
    for source in earlier:
        supervisor.say(source.words())
        sweep.ledger.append("warm_start", **source.summary())
    return [trial for source in earlier for trial in source.trials]


def let_go_on(sweep: Sweep, supervisor: Supervisor, chosen: list[str], others: dict[str, float]) -> None:
    """Records which paused trials go on, and ends the others where they paused.

    Args:
        sweep: The sweep.
        supervisor: Its recorder has the paused trials.
        chosen: Those that go on, best first.
        others: Predicted final objective of every other one, nats a token.
    """
    # Tune may hear of a pause before the recorder does.
    recorder = supervisor.recorder
    new = [trial_id for trial_id in (*chosen, *others) if trial_id not in recorder.paused]
    while not recorder.wait_for(new, WAIT_SECONDS):
        recorder.check()
    sweep.ledger.append(GO_ON, trial_ids=chosen)
    supervisor.say(f"{len(chosen)} of {len(chosen) + len(others)} paused trials go on: {', '.join(chosen)}")
    for trial_id, predicted in others.items():
        finding = _behind(recorder.paused, chosen, trial_id, sweep.config)
        recorder.stop_paused(trial_id, predicted if math.isfinite(predicted) else None, finding)


def _behind(paused: Mapping[str, TrialRecord], chosen: list[str], trial_id: str, config: SweepConfig) -> Finding:
    # None is chosen where no score is finite.
    score, *last = (
        [*objectives_by_step(paused[name], config.heldout.weights).values()][-1] for name in (trial_id, *chosen[-1:])
    )
    evidence: Evidence = {"score": score if math.isfinite(score) else str(score), "went_on": len(chosen)}
    if chosen:
        evidence |= {"last_chosen": chosen[-1], "score_of_last_chosen": last[0]}
    return Finding(
        rule="not_among_best",
        severity="info",
        step=paused[trial_id]["steps"],
        evidence=evidence,
        advice=f"{len(chosen)} trials had a lower held-out loss after {PAUSE_AT:.0%} of the epoch and went on",
    )


def make_tuner(config: SweepConfig, supervisor: Supervisor, search: SweepSearch, trials: int) -> tune.Tuner:
    """Builds a Tuner whose trials hold no GPU and no CPU.

    Args:
        config: The sweep.
        supervisor: Decides when to stop; its lanes train the trials.
        search: Proposes settings.
        trials: Trials that are left to train.
    """
    lanes = supervisor.lanes
    # Lanes hold the devices. The head node's marker keeps Tune's actors off nodes that may go.
    trainable = tune.with_resources(SweepTrial, tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}]))
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=make_trial_scheduler(config),
            num_samples=2 * trials if config.trials_pause else trials,  # the rest of a paused trial is one for Tune
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
    """Makes Tune's scheduler, which may stop trials early."""
    # None of Tune's that pauses or perturbs a trial: its actor would stay. A trial is one epoch with one LR schedule.
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
        case "none" | "evidence" | "pause":  # these work outside Tune
            return FIFOScheduler()


class CancelEndedTrials(NeverRestored, tune.Callback):
    """Frees a trial's lane when Tune is done with the trial."""

    # A callback, not `SweepTrial.cleanup`: with `reuse_actors` the actor may run another trial by then.

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        # Tune calls this, too, for a trial that its scheduler stopped. For one that has ended, `cancel` does nothing.
        self.lanes.cancel(trial.config["job_id"], "pruned")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        # The Tune actor died too often. Without this the lane would go on with a trial that Tune has given up.
        self.lanes.cancel(trial.config["job_id"], "failed")


class StopAll(NeverRestored, tune.Stopper):
    """Ends the search when the user interrupts, the budget is spent or the lanes fail."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False  # never a single trial

    def stop_all(self) -> bool:
        # `stopped` cancels the jobs as interrupted before Tune cancels them as pruned: a job keeps its first reason.
        return self.supervisor.stopped()
