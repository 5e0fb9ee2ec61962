"""Optuna as the search algorithm of Ray Tune: asks for trials, and tells Optuna how they ended.

`SweepSearch` is a thin subclass of Ray's `OptunaSearch`, because the stock class (Ray 2.60) tells a stopped trial's
mid-run loss as COMPLETE and leaves NaN and interrupted trials RUNNING for ever. `sweeps.search.samplers` proposes,
`sweeps.search.tell` decides what Optuna learns.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from sweeps.config.pausing import PAUSE_AT, pauses, trials_to_finish
from sweeps.config.sweep_config import SweepConfig
from sweeps.ledger.trial_record import StoppedTrials
from sweeps.search.distinct import Settings, Tried
from sweeps.search.paused_trials import PausedTrials
from sweeps.search.samplers import make_sampler
from sweeps.search.search_space import distributions, fixed_params
from sweeps.search.study import fresh_storage
from sweeps.search.tell import in_deciding_metric, outcome_of
from trainables.config.sections import Params
from trainables.config.trial_spec import TrialSpec
from trainables.lane.trial_parts import rest_id
from trainables.optim.lr_schedule import as_used

METRIC = "objective"


class NeverRestored:
    """Pickles to an empty state: Tune snapshots its inputs for its own restore, but a sweep resumes from the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Beginning:
    """Where a search begins: at its first points, or where an earlier start of the sweep ended."""

    points: Sequence[Params] = ()  # tried first; those of trials that were submitted before are left out
    history: Sequence[FrozenTrial] = ()  # finished trials, of earlier sweeps (`warm_start`) and then of this one
    unfinished: Sequence[TrialSpec] = ()  # trials that did not end; they come first, under their old ids
    submitted: int = 0  # trials that earlier starts proposed
    left: int | None = None  # trials to propose, `unfinished` included; None for all that `submitted` leaves
    paused: PausedTrials = field(default_factory=PausedTrials)  # of earlier starts
    settings: Settings | None = None  # tells what a setting trains; without it nothing is known to be a repetition
    tried: Sequence[TrialSpec] = ()  # search trials of earlier starts


@dataclass(frozen=True)
class Launch:
    """How a proposal becomes a running trial."""

    trial_config: dict[str, Any]  # Tune's config of every trial, without its `spec`
    on_submitted: Callable[[TrialSpec], None]  # called with each spec, before Tune gets it
    room: Callable[[], int] | None = None  # number of trials that can be trained at once now; None for no limit
    affordable: Callable[[float], bool] = lambda epochs: True  # whether the budget pays for so many epochs more
    # Called once all trials have paused or ended: the ids of those that go on, and of the others with their predicted
    # final objectives.
    on_chosen: Callable[[list[str], dict[str, float]], None] = lambda chosen, others: None


class SweepSearch(NeverRestored, OptunaSearch):
    """Proposes the trials of a sweep and tells Optuna their ends.

    Args:
        config: The sweep.
        base_objective: The base model's objective.
        launch: How a proposal becomes a running trial.
        beginning: Where the search begins.
        stopped: Trials that the pruner has stopped: Optuna gets their predicted final objectives.
    """

    def __init__(
        self,
        config: SweepConfig,
        base_objective: float,
        launch: Launch,
        beginning: Beginning | None = None,
        stopped: StoppedTrials | None = None,
    ) -> None:
        beginning = beginning or Beginning()
        submitted = beginning.submitted
        self.config = config
        self.base_objective = base_objective
        self.launch = launch
        self.unfinished, self.next_number = list(beginning.unfinished), submitted + 1
        new = config.search.trials - submitted + len(self.unfinished)
        self.left = new if beginning.left is None else beginning.left
        self.paused = beginning.paused
        self.to_come: int | None = None  # trials, and rests of paused ones, that may be proposed still, at most
        self._specs: dict[str, TrialSpec] = {}  # by Tune's id of the trial
        self._first_parts: set[str] = set()  # Tune's ids of new trials in a search whose trials pause
        self._points: defaultdict[str, dict[float, float]] = defaultdict(dict)  # objective by fraction of the epoch
        self._untold: list[str] = []  # Tune's ids of paused trials of which Optuna has not been told
        self.predictions = (stopped or StoppedTrials()).predictions
        self.distributions: dict[str, BaseDistribution] = {**distributions(config)}
        self.tried = Tried(config, beginning.settings, beginning.points)
        for spec in (*beginning.tried, *self.unfinished):
            self.tried.add({**spec.params, **(spec.drawn or {})}, spec.seed)
        super().__init__(
            space=self.distributions,
            metric=METRIC,
            mode="min",
            sampler=make_sampler(config, submitted, lambda params: self.tried.is_new(params, self.next_number)),
            storage=fresh_storage(config.folder),
            study_name=config.name,
        )
        if self._ot_study is None:  # Ray sets up no study for an empty space, where everything is fixed
            self._setup_study("min")
        self.study.add_trials(beginning.history)
        unfinished = [spec.params | (spec.drawn or {}) for spec in self.unfinished]
        for params in [*unfinished, *self.tried.worth_trying(beginning.points[submitted:])]:
            self.study.enqueue_trial({name: value for name, value in params.items() if name in self.distributions})

    @property
    def study(self) -> optuna.Study:
        """Optuna's study, which the base class sets up."""
        assert self._ot_study is not None
        return self._ot_study

    def suggest(self, trial_id: str) -> Any:
        """Returns the Tune config of the next trial, or of the rest of a paused one.

        None while every slot has a trial, or while a trial runs that may pause among the best; "FINISHED" at the end.
        """
        proposed = self._propose(trial_id)
        may_go_on = self.paused.specs or self._first_parts - self._completed_trials
        rests = trials_to_finish(self.next_number - 1) if may_go_on else len(self.paused.going_on)
        self.to_come = self.remaining + rests
        return proposed

    def _propose(self, trial_id: str) -> Any:
        running = len(self._specs) - len(self._completed_trials)
        # Never None while nothing runs: Tune would take that for the end of the search.
        if self.launch.room and running >= max(1, self.launch.room()):
            return None
        if self.remaining > 0 and self._pays_to_begin():
            self.left -= 1
            return self._suggest_new(trial_id)
        first_parts_run = self._first_parts - self._completed_trials
        if first_parts_run and not self.paused.going_on:
            return None
        if self.paused.specs and not first_parts_run:
            self._choose()
        return self._suggest_rest(trial_id) if self.paused.going_on else Searcher.FINISHED

    @property
    def remaining(self) -> int:
        """Number of trials that are left to propose: fewer than the config asks for where no new ones exist."""
        new = self.tried.untried
        return max(0, self.left if new is None else min(self.left, len(self.unfinished) + new))

    def _pays_to_begin(self) -> bool:
        """Whether the budget pays for another trial's first part and then for those that go on."""
        if not self.config.trials_pause:
            return True
        rest = max(0, trials_to_finish(self.next_number) - len(self.paused.finished_lrs))
        return self.launch.affordable(PAUSE_AT + (1 - PAUSE_AT) * rest)

    def _suggest_new(self, trial_id: str) -> dict[str, Any]:
        if trial_id not in self._ot_trials:
            if not self.unfinished and (setting := self.tried.next_of_few(self.next_number)):
                self.study.enqueue_trial({name: setting[name] for name in self.distributions})
            self._ot_trials[trial_id] = self.study.ask(fixed_distributions=self.distributions)
        spec = self.unfinished.pop(0) if self.unfinished else self._new_spec(self._ot_trials[trial_id].params)
        self.launch.on_submitted(spec)
        if self.config.trials_pause:
            self._first_parts.add(trial_id)
        pause = self.config.trials_pause and pauses(_number(spec), self.config.search.trials)
        return self._launched(trial_id, spec, spec.trial_id, PAUSE_AT if pause else None)

    def _suggest_rest(self, trial_id: str) -> dict[str, Any]:
        spec = self.paused.going_on.pop(0)
        # Optuna can't change what it was told of the trial's first part: the end is another observation of its setting.
        drawn = {**spec.params, **(spec.drawn or {})}
        self.study.enqueue_trial({name: value for name, value in drawn.items() if name in self.distributions})
        self._ot_trials[trial_id] = self.study.ask(fixed_distributions=self.distributions)
        return self._launched(trial_id, spec, rest_id(spec.trial_id), None)

    def _launched(self, trial_id: str, spec: TrialSpec, job_id: str, pause_at: float | None) -> dict[str, Any]:
        self._specs[trial_id] = spec
        self._ot_trials[trial_id].set_user_attr("trial_id", spec.trial_id)
        return {**self.launch.trial_config, "spec": spec.model_dump(), "job_id": job_id, "pause_at": pause_at}

    def _choose(self) -> None:
        chosen = self.paused.choose(self.next_number - 1)
        others = {trial_id: self.paused.predicted(trial_id) for trial_id in self.paused.specs}
        self.paused.specs.clear()
        self.launch.on_chosen(chosen, others)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports a held-out point as an intermediate value of Optuna's trial, by step."""
        if trial_id not in self._completed_trials and math.isfinite(result[METRIC]):
            self._ot_trials[trial_id].report(result[METRIC], result["step"])
            self._points[trial_id][result["fraction"]] = result[METRIC]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells Optuna how a trial ended, once; see `sweeps.search.tell`."""
        if trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        trial, end = self._ot_trials[trial_id], {} if error or result is None else result
        spec = self._specs.get(trial_id)  # None for a proposal that could not be submitted
        if spec and end.get("state") == "paused":
            self.paused.add(spec, end[METRIC])
            self._untold.append(trial_id)
        else:
            if spec and end.get("state") == "complete" and spec.trial_id not in self.paused.scores:
                self.paused.complete(spec, {**self._points[trial_id], 1.0: end[METRIC]})
            predicted = self.predictions.get(spec.trial_id if spec else "", end.get("predicted"))
            self._tell(trial, end.get("state"), self._objective(end), predicted)
        self._tell_paused()

    def _tell(self, trial: optuna.Trial, state: str | None, last: float | None, predicted: float | None) -> None:
        so_far = self.study.get_trials(deepcopy=False)
        predicted = in_deciding_metric(predicted, so_far, self.config.objective.measure)
        outcome = outcome_of(state, last, predicted, self.base_objective, so_far)
        # Attributes first: Optuna refuses to change a trial that has been told.
        for name, value in outcome.attrs.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, outcome.value, state=outcome.state)

    def _objective(self, end: dict[str, Any]) -> float | None:
        measure, areas = self.config.objective.measure, end.get("areas")
        if not measure.higher_is_better:
            return end.get(METRIC)
        return measure.objective(dict(areas), self.config.heldout.weights) if areas else None

    def _tell_paused(self) -> None:
        # Not while a trial runs that never pauses: what its rest brings is what a paused trial's prediction needs, and
        # values told before and after would not compare.
        running = self._specs.keys() - self._completed_trials
        if any(_number(self._specs[trial_id]) == 1 for trial_id in running):
            return
        for trial_id in self._untold:
            predicted = self.paused.predicted(self._specs[trial_id].trial_id)
            self._tell(self._ot_trials[trial_id], "paused", None, predicted)
        self._untold.clear()

    def close(self) -> None:
        """Tells Optuna FAIL for every trial without an end, so that none stays RUNNING in the study."""
        for trial_id in self._ot_trials:
            self.on_trial_complete(trial_id, error=True)

    def _new_spec(self, drawn: Params) -> TrialSpec:
        params, adjusted = as_used({**fixed_params(self.config), **drawn})
        self.next_number += 1
        trial_id = f"t{self.next_number - 1:04d}"
        seed = self.tried.seed_for(drawn, self.next_number - 1)
        self.tried.add(drawn, seed)
        return TrialSpec(trial_id=trial_id, seed=seed, params=params, drawn=adjusted)

    # Tune's own checkpoints of the search are empty: a sweep resumes from the ledger.
    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


def _number(spec: TrialSpec) -> int:
    return int(spec.trial_id.removeprefix("t"))
