"""Optuna as the search algorithm of Ray Tune: asks for trials, and tells Optuna how they ended.

`SweepSearch` is a thin subclass of Ray's `OptunaSearch`, because the stock class (Ray 2.60) tells a stopped trial's
mid-run loss as COMPLETE and leaves NaN and interrupted trials RUNNING for ever. `sweeps.search.samplers` proposes,
`sweeps.search.tell` decides what Optuna learns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from ray.tune.search.optuna import OptunaSearch

from sweeps.config.sweep_config import SweepConfig
from sweeps.ledger.trial_record import StoppedTrials, TrialRecord
from sweeps.search.samplers import make_sampler
from sweeps.search.search_space import distributions, fixed_params
from sweeps.search.study import fresh_storage, open_storage
from sweeps.search.tell import as_trials, outcome_of
from trainables.config.sections import Params
from trainables.config.trial_spec import TrialSpec
from trainables.optim.lr_schedule import as_used

METRIC = "objective"


class NeverRestored:
    """Pickles to an empty state: Tune snapshots its inputs for its own restore, but a sweep resumes from the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Beginning:
    """Where a search begins: at its first points, or where an earlier start of the sweep ended."""

    points: Sequence[Params] = ()  # tried first, unless trials were submitted before
    history: Sequence[FrozenTrial] = ()  # finished trials, of earlier sweeps (`warm_start`) and then of this one
    unfinished: Sequence[TrialSpec] = ()  # trials that did not end; they come first, under their old ids
    submitted: int = 0  # trials that earlier starts proposed


@dataclass(frozen=True)
class Launch:
    """How a proposal becomes a running trial."""

    trial_config: dict[str, Any]  # Tune's config of every trial, without its `spec`
    on_submitted: Callable[[TrialSpec], None]  # called with each spec, before Tune gets it
    room: Callable[[], int] | None = None  # number of trials that can be trained at once now; None for no limit


class SweepSearch(NeverRestored, OptunaSearch):
    """Proposes the trials of a sweep and tells Optuna their ends.

    Args:
        config: The sweep.
        base_objective: The base model's objective, nats a token.
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
        self.predictions = (stopped or StoppedTrials()).predictions
        self.distributions: dict[str, BaseDistribution] = {**distributions(config)}
        super().__init__(
            space=self.distributions,
            metric=METRIC,
            mode="min",
            sampler=make_sampler(config, submitted),
            storage=fresh_storage(config.folder),
            study_name=config.name,
        )
        if self._ot_study is None:  # Ray sets up no study for an empty space, where everything is fixed
            self._setup_study("min")
        self.study.add_trials(beginning.history)
        first = [spec.params | (spec.drawn or {}) for spec in self.unfinished]
        for params in first or ([] if submitted else beginning.points):
            self.study.enqueue_trial({name: value for name, value in params.items() if name in self.distributions})

    @property
    def study(self) -> optuna.Study:
        """Optuna's study, which the base class sets up."""
        assert self._ot_study is not None
        return self._ot_study

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Returns the next trial's Tune config; None while every slot has a trial."""
        running = len(self._ot_trials) - len(self._completed_trials)
        # Never None while nothing runs: Tune would take that for the end of the search.
        if self.launch.room and running >= max(1, self.launch.room()):
            return None
        if trial_id not in self._ot_trials:
            self._ot_trials[trial_id] = self.study.ask(fixed_distributions=self.distributions)
        spec = self.unfinished.pop(0) if self.unfinished else self._new_spec(self._ot_trials[trial_id].params)
        self._ot_trials[trial_id].set_user_attr("trial_id", spec.trial_id)
        self.launch.on_submitted(spec)
        return {**self.launch.trial_config, "spec": spec.model_dump()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports a held-out point as an intermediate value of Optuna's trial, by step."""
        if trial_id not in self._completed_trials and math.isfinite(result[METRIC]):
            self._ot_trials[trial_id].report(result[METRIC], result["step"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells Optuna how a trial ended, once; see `sweeps.search.tell`."""
        if trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        trial, end = self._ot_trials[trial_id], {} if error or result is None else result
        predicted = self.predictions.get(trial.user_attrs.get("trial_id", ""), end.get("predicted"))
        so_far = self.study.get_trials(deepcopy=False)
        outcome = outcome_of(end.get("state"), end.get(METRIC), predicted, self.base_objective, so_far)
        # Attributes first: Optuna refuses to change a trial that has been told.
        for name, value in outcome.attrs.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, outcome.value, state=outcome.state)

    def close(self) -> None:
        """Tells Optuna FAIL for every trial without an end, so that none stays RUNNING in the study."""
        for trial_id in self._ot_trials:
            self.on_trial_complete(trial_id, error=True)

    def _new_spec(self, drawn: Params) -> TrialSpec:
        params, adjusted = as_used({**fixed_params(self.config), **drawn})
        self.next_number += 1
        trial_id = f"t{self.next_number - 1:04d}"
        return TrialSpec(trial_id=trial_id, seed=self.config.seed, params=params, drawn=adjusted)

    # Tune's own checkpoints of the search are empty: a sweep resumes from the ledger.
    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


def tell_replicates(config: SweepConfig, records: Sequence[TrialRecord], base_objective: float) -> None:
    """Adds ended replicates, by their lines of `trials.jsonl`, to a closed study as repeated observations."""
    study = optuna.load_study(study_name=config.name, storage=open_storage(config.folder))
    before = study.get_trials(deepcopy=False)
    known = {trial.user_attrs.get("trial_id") for trial in before}
    # A resumed sweep's study has its earlier replicates already.
    new = [record for record in records if record["trial_id"] not in known]
    study.add_trials(as_trials(new, config, base_objective, before))
