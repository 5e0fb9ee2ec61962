"""The trials of a search that have paused: their scores, what they would have reached, and which go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sweeps.config.pausing import PAUSE_AT, predicted_final
from sweeps.ledger.history import Past
from sweeps.ledger.trial_record import TrialRecord, spec_of
from sweeps.search.going_on import choose
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation.objective import objectives_by_step

# How far the nearest checkpoint may lie from `PAUSE_AT`, as a fraction of the epoch: an epoch of 4 steps has one there.
NEAR = 0.125


@dataclass
class PausedTrials:
    """Paused trials, and what finished ones say of the rest of an epoch.

    Attributes:
        specs: Paused trials that were not chosen to go on, by trial id.
        scores: Held-out objective where each paused, nats a token, by trial id.
        falls: Objective where trials pause less the final one, of each finished trial that was scored there, by id.
        finished_lrs: Peak LRs of the search trials that were trained to the end, or go on to it.
        going_on: Trials that were chosen, and not proposed yet, best first.
    """

    specs: dict[str, TrialSpec] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    falls: dict[str, float] = field(default_factory=dict)
    finished_lrs: list[float] = field(default_factory=list)
    going_on: list[TrialSpec] = field(default_factory=list)

    @classmethod
    def of_past(cls, past: Past, weights: Mapping[str, float]) -> PausedTrials:
        """Reads the records of earlier starts; `weights` are those of the areas in the objective."""
        found = cls()
        for record in past.ended:
            if record["state"] == "complete" and record["kind"] == "search":
                points = objectives_by_step(record, weights)
                # A complete trial was scored after its last step.
                found.complete(spec_of(record), {step / max(points): value for step, value in points.items()})
        for record in past.paused.values():
            points = objectives_by_step(record, weights)
            found.add(spec_of(record), points[max(points)])
        found._take([trial_id for trial_id in past.going_on if trial_id in found.specs])
        return found

    def add(self, spec: TrialSpec, score: float) -> None:
        """Adds a trial that has paused, with its score there."""
        self.specs[spec.trial_id], self.scores[spec.trial_id] = spec, score

    def complete(self, spec: TrialSpec, points: Mapping[float, float]) -> None:
        """Adds a trial that was trained to the end without a pause, with its objective by fraction of the epoch."""
        self.finished_lrs.append(_peak_lr(spec))
        near = min(points, key=lambda fraction: abs(fraction - PAUSE_AT), default=1.0)
        if abs(near - PAUSE_AT) <= NEAR:
            self.falls[spec.trial_id] = points[near] - points[max(points)]

    def predicted(self, trial_id: str) -> float:
        """Final objective that a paused trial would reach, nats a token."""
        return predicted_final(self.scores[trial_id], self.falls)

    def with_predictions(self, paused: Iterable[TrialRecord]) -> list[TrialRecord]:
        """The records of paused trials with the final objectives that are predicted for them."""
        return [{**record, "predicted": self.predicted(record["trial_id"])} for record in paused]

    def choose(self, trials: int) -> list[str]:
        """Chooses those that go on, in a search of so many trials; returns their ids, best first."""
        scores = {trial_id: self.scores[trial_id] for trial_id in self.specs}
        settings = {trial_id: spec.params for trial_id, spec in self.specs.items()}
        chosen = choose(scores, settings, self.finished_lrs, trials)
        self._take(chosen)
        return chosen

    def _take(self, chosen: list[str]) -> None:
        specs = [self.specs.pop(trial_id) for trial_id in chosen]
        self.going_on += specs
        self.finished_lrs += [_peak_lr(spec) for spec in specs]


def _peak_lr(spec: TrialSpec) -> float:
    return float(spec.params["peak_lr"])
