"""What more data would bring, read from a sweep's subset trials; see `analysis.stats.data_scaling`."""

from __future__ import annotations

from typing import Any

from analysis.rank.candidates import Candidate
from analysis.records.sweep import Sweep, Trial
from analysis.stats.data_scaling import MoreData, more_data
from trainables.diagnostics.generalization import Items

QUARTER, HALF = 0.25, 0.5
SUBSET = "subset"


def what_more_data_brings(
    sweep: Sweep, candidates: list[Candidate], setting: str | None, seed_sd: float | None
) -> dict[str, Any]:
    """Compares the trials on a quarter and a half of the training set with the full trial of their setting.

    Args:
        sweep: The sweep, its subset trials among its trials.
        candidates: All checkpoints of complete trials, those of subset trials among them.
        setting: The winner's search trial; where it has no subset trials, another's that has.
        seed_sd: Standard deviation between seeds, nats a token; None where it is not known.

    Returns:
        `verdict`, `sentence`, the two gains with their intervals, `next_doubling`, and the `trials` compared; "not
        measured" where one of them is missing.
    """
    trials = subset_trials(sweep, setting)
    # The last checkpoint, not the best: only a finished LR schedule shows what the data gave.
    last = {c.trial_id: c for c in sorted(candidates, key=lambda c: c.step) if c.defect is None}
    found, used = MoreData("not measured"), {}
    if trials is not None and all(trial.trial_id in last for trial in trials):
        chosen = [last[trial.trial_id] for trial in trials]
        quarter, half, full = (_items(sweep, candidate) for candidate in chosen)
        found = more_data(quarter, half, full, _groups(sweep, chosen[0]), sweep.weights, seed_sd)
        used = {name: c.trial_id for name, c in zip(("quarter", "half", "full"), chosen, strict=True)}
    return {
        "verdict": found.verdict,
        "sentence": found.sentence(),
        "from_quarter": _as_list(found.from_quarter),
        "from_half": _as_list(found.from_half),
        "next_doubling": _as_list(found.next_doubling),
        "trials": used,
    }


def subset_trials(sweep: Sweep, setting: str | None) -> tuple[Trial, Trial, Trial] | None:
    """The complete trials on a quarter, on a half and on all samples of one setting; None where one is missing."""
    by_id = {trial.trial_id: trial for trial in sweep.trials if trial.state == "complete"}
    found: dict[str, dict[float, Trial]] = {}
    for trial in by_id.values():
        if trial.kind == SUBSET and trial.replicate_of in by_id and trial.fraction is not None:
            found.setdefault(trial.replicate_of, {})[trial.fraction] = trial
    for name in sorted(found, key=lambda name: (name != setting, name)):
        if {QUARTER, HALF} <= set(found[name]):
            return found[name][QUARTER], found[name][HALF], by_id[name]
    return None


def _keys(sweep: Sweep, candidate: Candidate) -> dict[str, list[tuple[str, str]]]:
    return {area: sorted(key for key in candidate.scores if key[0] == area) for area in sweep.weights}


def _items(sweep: Sweep, candidate: Candidate) -> Items:
    return {area: [candidate.scores[key].nll for key in keys] for area, keys in _keys(sweep, candidate).items()}


def _groups(sweep: Sweep, candidate: Candidate) -> dict[str, list[str]]:
    return {area: [candidate.scores[key].group for key in keys] for area, keys in _keys(sweep, candidate).items()}


def _as_list(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)
