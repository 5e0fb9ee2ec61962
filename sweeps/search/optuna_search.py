"""The search: Optuna's proposals as trials of a sweep, and their ends as Optuna should know them.

`SweepSearch` is a thin subclass of Ray's `OptunaSearch`, because the stock class (Ray 2.60) tells a stopped trial's
mid-run loss as COMPLETE and leaves NaN and interrupted trials RUNNING for ever. Who proposes is in
`sweeps.search.samplers`, what Optuna is told in `sweeps.search.tell`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from ray.tune.search.optuna import OptunaSearch

from sweeps.config.sweep_config import SweepConfig
from sweeps.search.samplers import make_sampler
from sweeps.search.search_space import distributions, fixed_params
from sweeps.search.study import fresh_storage, open_storage
from sweeps.search.tell import Record, as_trials, outcome_of
from trainables.config.trial_spec import TrialSpec
from trainables.optim.lr_schedule import cap_floor

METRIC = "objective"


class NeverRestored:
    """Pickles as nothing. Tune pickles what it is given, so that it could be restored; a sweep resumes otherwise."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class SweepSearch(NeverRestored, OptunaSearch):
    """Optuna's proposals as trials of a sweep, and their ends as Optuna should know them.

    Args:
        config: The sweep.
        points: Tried first.
        base_objective: The base model's objective, nats a token.
        trial_config: What every trial's Tune config holds beside its `spec`.
        on_submitted: Called with each trial's spec, before Tune sees it.
        history: Trials that ended before: of earlier sweeps (`sweeps.search.warm_start`), then of earlier starts of
        this one
            (`sweeps.search.tell.as_trials`).
        unfinished: Trials of earlier starts that did not end; they come first, under their old ids.
        submitted: Trials that earlier starts proposed.
        room: Trials that can be trained at once now; None for as many as Tune asks for. Where there is no room nothing
            is proposed, unless nothing runs: Tune would take that for the end.

    Attributes:
        predictions: The final objective that a trial would have had, by trial id: whoever stops a trial puts it here
            first, and Optuna is told that.
    """

    def __init__(
        self,
        config: SweepConfig,
        points: list[dict[str, float]],
        base_objective: float,
        trial_config: dict[str, Any],
        on_submitted: Callable[[TrialSpec], None],
        history: Sequence[FrozenTrial] = (),
        unfinished: Sequence[TrialSpec] = (),
        submitted: int = 0,
        room: Callable[[], int] | None = None,
    ) -> None:
        self.config, self.base_objective, self.trial_config = config, base_objective, trial_config
        self.on_submitted, self.next_number, self.unfinished = on_submitted, submitted + 1, list(unfinished)
        self.predictions: dict[str, float] = {}
        self.room = room
        self.distributions: dict[str, BaseDistribution] = {**distributions(config)}
        super().__init__(
            space=self.distributions,
            metric=METRIC,
            mode="min",
            sampler=make_sampler(config, submitted),
            storage=fresh_storage(config.folder),
            study_name=config.name,
        )
        if self._ot_study is None:  # everything is fixed: one point, searched over nothing
            self._setup_study("min")
        self.study.add_trials(history)
        for params in [spec.params | (spec.drawn or {}) for spec in self.unfinished] or ([] if submitted else points):
            self.study.enqueue_trial({name: value for name, value in params.items() if name in self.distributions})

    @property
    def study(self) -> optuna.Study:
        """Optuna's study, which the base class sets up."""
        assert self._ot_study is not None
        return self._ot_study

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial's Tune config, Optuna's trial carries our id; None while every slot has a trial."""
        running = len(self._ot_trials) - len(self._completed_trials)
        if self.room and running >= max(1, self.room()):
            return None
        if trial_id not in self._ot_trials:
            self._ot_trials[trial_id] = self.study.ask(fixed_distributions=self.distributions)
        spec = self.unfinished.pop(0) if self.unfinished else self._new_spec(self._ot_trials[trial_id].params)
        self._ot_trials[trial_id].set_user_attr("trial_id", spec.trial_id)
        self.on_submitted(spec)
        return {**self.trial_config, "spec": spec.model_dump()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A held-out point on the way: an intermediate value of Optuna's trial, by step."""
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
        told = outcome_of(end.get("state"), end.get(METRIC), predicted, self.base_objective, so_far)
        for name, value in told.attrs.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, told.value, state=told.state)

    def close(self) -> None:
        """Marks as FAIL whatever Tune never said the end of, so that no trial of the study stays RUNNING."""
        for trial_id in self._ot_trials:
            self.on_trial_complete(trial_id, error=True)

    def _new_spec(self, drawn: dict[str, float]) -> TrialSpec:
        params, adjusted = cap_floor({**fixed_params(self.config), **drawn})
        self.next_number += 1
        trial_id = f"t{self.next_number - 1:04d}"
        return TrialSpec(trial_id=trial_id, seed=self.config.seed, params=params, drawn=adjusted)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's journal and the ledger are what a sweep resumes from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


def tell_replicates(config: SweepConfig, records: Sequence[Record], base_objective: float) -> None:
    """Adds replicates that have ended to the study's journal, as repeated observations; those it has stay as they are.

    Args:
        config: The sweep, whose search is closed.
        records: Their lines of `trials.jsonl`.
        base_objective: The base model's objective, nats a token.
    """
    study = optuna.load_study(study_name=config.name, storage=open_storage(config.folder))
    before = study.get_trials(deepcopy=False)
    known = {trial.user_attrs.get("trial_id") for trial in before}
    new = [record for record in records if record["trial_id"] not in known]
    study.add_trials(as_trials(new, config, base_objective, before))
