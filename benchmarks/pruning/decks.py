"""Recorded trials by LR regime, from which replayed sweeps are drawn, and the seed sd among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.pruning.replay import Recorded, recorded_trials
from benchmarks.recording.curves import GRID_PEAKS, REGIMES, Curves

# A grid's lowest and highest levels belong to the regimes that end there.
ROUNDING = 1.001

# With fewer degrees of freedom a seed's sd counts as not measured.
LEAST_DF = 3


@dataclass(frozen=True)
class Deck:
    """Recorded trials that sweeps are drawn from; all saw the same samples in the same order."""

    regime: str  # its LR regime, or "all"
    order: int  # the seed of the samples' order
    trials: tuple[Recorded, ...]  # whole trials
    # standard deviation of the final objective between seeds near the best setting, nats a token; NaN where it
    # was not measured
    seed_sd: float

    @property
    def name(self) -> str:
        return f"{self.regime} ({self.order})"


def decks(curves: Curves) -> list[Deck]:
    """Decks of the LR regimes, as recorded or cut out of a grid, for each order of samples."""
    found = []
    for regime, ends in REGIMES.items():
        if "grid" in curves.study:
            scale = curves.params[:, 0].max() / GRID_PEAKS[-1]
            low, high = ends[0] * scale / ROUNDING, ends[1] * scale * ROUNDING
            chosen = (curves.params[:, 0] >= low) & (curves.params[:, 0] <= high)
        else:
            chosen = curves.study == regime
        for order in np.unique(curves.seed[chosen]).tolist():
            trials = tuple(recorded_trials(curves, chosen & (curves.seed == order)))
            found.append(Deck(regime, order, trials, seed_sd(curves, best_peak(trials))))
    return found


def together(chosen: Sequence[Deck]) -> list[Deck]:
    """Joins the decks of each order of samples; the seed sd is that of the regime with the best trial."""
    found = []
    for order in sorted({deck.order for deck in chosen}):
        parts = [deck for deck in chosen if deck.order == order]
        best = min(parts, key=lambda deck: min(trial.objective for trial in deck.trials))
        trials = {trial.row: trial for deck in parts for trial in deck.trials}  # regimes overlap
        found.append(Deck("all", order, tuple(trials.values()), best.seed_sd))
    return found


def best_peak(trials: Sequence[Recorded]) -> float:
    return min(trials, key=lambda trial: trial.objective).params["peak_lr"]


def seed_sd(curves: Curves, peak_lr: float) -> float:
    """Pooled seed sd of the final objective at the nearest peak LR with several seeds; NaN if unknown."""
    rows = np.isin(curves.study, ["seeds", "grid"]) & (curves.state == "complete")
    finals = curves.objective[:, -1]
    rows &= np.isfinite(finals)
    if not rows.any():
        return float("nan")
    peaks = curves.params[:, 0]
    nearest = min(np.unique(peaks[rows]).tolist(), key=lambda peak: abs(np.log(peak / peak_lr)))
    rows &= peaks == nearest
    settings = np.unique(curves.params[rows], axis=0)
    groups = [finals[rows & np.all(curves.params == setting, axis=1)] for setting in settings]
    df = sum(len(group) - 1 for group in groups)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return float(np.sqrt(squares / df)) if df >= LEAST_DF else float("nan")
