"""From the config to Optuna, and from a trial's end to what Optuna is told.

`SweepSearch` is a thin subclass of Ray's `OptunaSearch`, because the stock class (Ray 2.60) tells a stopped trial's
mid-run loss as COMPLETE and leaves NaN and interrupted trials RUNNING for ever. Here:

    complete -> COMPLETE, the last checkpoint's objective
    diverged -> COMPLETE, the base model's objective (gain 0); the true value, if there was one, in `user_attrs`
    stopped  -> PRUNED
    failed, interrupted -> FAIL
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.optuna import OptunaSearch

from sweeps.config import SweepConfig
from sweeps.sections import Range
from trainables.config import TrialSpec, is_integer_param
from trainables.schedule import cap_floor

METRIC = "objective"
STUDY_FILE = "study.log"


def distributions(config: SweepConfig) -> dict[str, BaseDistribution]:
    """Optuna's distribution of every searched hyper-parameter; fixed ones are left out."""
    found: dict[str, BaseDistribution] = {}
    for name, value in config.space.items().items():
        if isinstance(value, Range) and is_integer_param(name):
            found[name] = IntDistribution(int(value.low), int(value.high), log=value.log)
        elif isinstance(value, Range):
            found[name] = FloatDistribution(value.low, value.high, log=value.log)
    return found


def fixed_params(config: SweepConfig) -> dict[str, float]:
    """The hyper-parameters of the space that are given as a number."""
    return {name: value for name, value in config.space.items().items() if not isinstance(value, Range)}


def make_sampler(config: SweepConfig, trials_done: int) -> BaseSampler:
    """The sampler that the config names.

    Its seed hangs on how many trials the ledger holds: with the same seed after a restart, the same points would be
    proposed again.
    """
    digest = hashlib.sha256(f"{config.seed}:{trials_done}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    startup = config.search.startup_trials
    match config.search.sampler:
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=startup, deterministic_objective=False)
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)
        case "qmc":
            return QMCSampler(seed=seed, warn_independent_sampling=False)
        case "random":
            return RandomSampler(seed=seed)


def seed_points(config: SweepConfig, recommended: dict[str, float]) -> list[dict[str, float]]:
    """Points tried first, flat and inside the space; the recommended point is moved to the space's nearest edge."""
    if config.search.seed_points != "recommended":
        return list(config.search.seed_points)
    ends = config.space.ends()
    searched = distributions(config)
    return [
        {name: min(max(recommended[name], ends[name][0]), ends[name][1]) for name in searched if name in recommended}
    ]


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
        history: Trials of earlier starts of this sweep that ended, as Optuna was told of them.
        unfinished: Trials of earlier starts that did not end; they come first, under their old ids.
        submitted: Trials that earlier starts proposed.
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
    ) -> None:
        self.config, self.base_objective, self.trial_config = config, base_objective, trial_config
        self.on_submitted, self.next_number, self.unfinished = on_submitted, submitted + 1, list(unfinished)
        self.distributions = distributions(config)
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

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next trial's Tune config; Optuna's trial carries our id."""
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
        """Tells Optuna how a trial ended, once; see the module's table."""
        if trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        state, value = verdict(result, error, self.base_objective)
        trial = self._ot_trials[trial_id]
        if result and result.get("state") == "diverged":
            trial.set_user_attr("diverged_objective", str(result[METRIC]))
        self.study.tell(trial, value, state=state)

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


def verdict(result: dict[str, Any] | None, error: bool, base_objective: float) -> tuple[TrialState, float | None]:
    """What Optuna is told of a trial that ended with this last result of Tune's.

    Returns:
        Optuna's state, and the value for a COMPLETE one.
    """
    state = (result or {}).get("state")
    if error or state in (None, "failed", "interrupted"):
        return TrialState.FAIL, None
    if state == "diverged":
        return TrialState.COMPLETE, base_objective
    if state == "complete" and result is not None and math.isfinite(result[METRIC]):
        return TrialState.COMPLETE, result[METRIC]
    if state in ("running", "pruned"):
        return TrialState.PRUNED, None
    return TrialState.FAIL, None


def fresh_storage(folder: Path) -> JournalStorage:
    """An empty journal: the ledger, not the last journal, says what a resumed study holds."""
    (folder / STUDY_FILE).unlink(missing_ok=True)
    return open_storage(folder)


def open_storage(folder: Path) -> JournalStorage:
    """The study's journal `study.log`, which `optuna-dashboard` opens too."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(JournalFileBackend(str(folder / STUDY_FILE)))
