"""Compares a running trial with finished ones on the samples it was trained on last. Pure.

`sweeps.pruning.final_prediction` predicts what the rest of the epoch brings; here are the tests made of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sweeps.pruning.final_prediction import (
    LEAST_LOSS,
    REACH,
    FinalPrediction,
    features_of,
    late_fall,
    out_of_reach,
    predict_final,
    relative_features,
    standard_error,
)
from sweeps.pruning.trial_curve import Array, TrialCurve

# All constants are ours, by replays on the tiny model's grid of trials.
WINDOW = 0.05  # part of the epoch that the running loss is taken over; saved more than 0.1, 0.15 and 0.2 at no cost
LEAST_WINDOW_SAMPLES = 8
# Probability that a trial stopped as dominated would have ended behind the best. 0.92 made up to 8 % of an LR regime's
# sweeps choose worse by more than a seed's sd, 0.95 up to 4 %.
LEVEL = 0.95
# Factor by which a trial's mean LR may lie outside those of finished trials for these to predict it. Over all 3.5
# decades of LR of the grid a factor of 3 made 7 % of 16-trial sweeps choose worse, 1.5 made 4 %.
FARTHEST = 1.5
# Part of the epoch after which the reach test ends: finished trials' own falls get too small to tell from noise.
LATEST_REACH = 0.5


@dataclass(frozen=True)
class RelativePosition:
    """A trial among finished ones, at its current place in the epoch.

    Attributes:
        trial: The trial.
        peers: Finished trials that saw the same samples; at least one.
        finals: (peers,) their final objectives, nats a token.
        window: The last samples that the trial was trained on, all after its warm-up.
        heldout_at: The last checkpoint that all have, in samples; None where they share none.
        own: The trial's features.
        outlook: The peers' prediction for the trial; None where they predict nothing.
    """

    trial: TrialCurve
    peers: list[TrialCurve]
    finals: Array
    window: slice
    heldout_at: int | None
    own: list[Array]
    outlook: FinalPrediction | None

    @property
    def best(self) -> TrialCurve:
        return self.peers[int(np.argmin(self.finals))]

    @property
    def gap(self) -> Array:
        """(samples,) loss on each sample of the window less the best peer's."""
        return self.trial.nll[self.window] - self.best.nll[self.window]


def locate(trial: TrialCurve, finished: Sequence[TrialCurve]) -> RelativePosition | None:
    """Places a trial among finished ones; None before one has finished or the window has left the warm-up.

    Raises:
        ValueError: A finished trial has no finite objective or not its whole curve.
    """
    peers = [other for other in finished if _is_paired(trial, other)]
    finals = np.array([_objective(peer) for peer in peers])
    window = slice(trial.seen - _window_samples(WINDOW, trial.samples), trial.seen)
    if not peers or window.start < trial.warmup_samples or not np.all(np.isfinite(trial.nll[window])):
        return None
    heldout_at = _shared_checkpoint(trial, peers)
    own = _features([trial], window, heldout_at)
    place = RelativePosition(trial, peers, finals, window, heldout_at, own, None)
    if not _is_near(trial, peers):
        return place
    # The prediction can't be more certain than the trial's own running loss, which is its first feature (a logarithm).
    noise = standard_error(place.gap) / (np.mean(trial.nll[window]) + LEAST_LOSS)
    outlook = predict_final(
        relative_features(_features(peers, window, heldout_at), own), finals, np.ones(len(peers)), own_noise=noise
    )
    return replace(place, outlook=outlook if math.isfinite(outlook.final) else None)


def _window_samples(part: float, samples: int) -> int:
    return max(round(part * samples), min(LEAST_WINDOW_SAMPLES, samples))


def _is_paired(trial: TrialCurve, other: TrialCurve) -> bool:
    # The seed orders the samples: a replicate, with another seed, saw others in these steps. And a schedule that decays
    # later earns its gain later: in mid-epoch its losses say nothing beside those of another shape.
    same = trial.seed == other.seed and trial.samples == other.samples and trial.decay == other.decay
    return same and trial.trial_id != other.trial_id


def _is_near(trial: TrialCurve, peers: Sequence[TrialCurve]) -> bool:
    means = [peer.mean_lr for peer in peers]
    return min(means) / FARTHEST <= trial.mean_lr <= max(means) * FARTHEST


def _objective(peer: TrialCurve) -> float:
    if peer.objective is None or not math.isfinite(peer.objective) or peer.seen != peer.samples:
        raise ValueError(f"{peer.trial_id}: a finished trial needs its whole curve and a finite objective")
    return peer.objective


def _shared_checkpoint(trial: TrialCurve, peers: Sequence[TrialCurve]) -> int | None:
    shared = [at for at in trial.heldout if at <= trial.seen and all(at in peer.heldout for peer in peers)]
    return max(shared) if shared else None


def _features(trials: Sequence[TrialCurve], window: slice, heldout_at: int | None) -> list[Array]:
    return features_of(
        _losses(trials, window).mean(axis=-1),
        np.array([trial.mean_lr for trial in trials]),
        None if heldout_at is None else np.array([trial.heldout[heldout_at] for trial in trials]),
    )


def _losses(trials: Sequence[TrialCurve], window: slice) -> Array:
    return np.stack([trial.nll[window] for trial in trials])  # (trials, samples)


def beyond_reach_test(place: RelativePosition, level: float) -> dict[str, Any]:
    """Evidence for the reach test, which needs only one finished trial."""
    trial, window = place.trial, place.window
    evidence = {
        "finished": len(place.peers),
        "window_samples": len(place.gap),
        "best": place.best.trial_id,
        "best_objective": float(place.finals.min()),
        "gap": float(np.mean(place.gap)),
        "gap_standard_error": float(standard_error(place.gap)),
        "level": level,
    }
    if trial.seen > LATEST_REACH * trial.samples:
        return evidence
    # The last samples of the epoch, twice as many as the window's: their mean is an end point with less noise.
    end = slice(trial.samples - 2 * len(place.gap), trial.samples)
    falls = late_fall(_losses(place.peers, window), _losses(place.peers, end), level)
    return evidence | {
        "most_late_fall": float(falls.max()),
        "reach": REACH,
        "out_of_reach": out_of_reach(place.gap, falls, level),
    }


def against_best(place: RelativePosition, level: float) -> dict[str, Any]:
    """Evidence from the regression: is the trial behind the best finished one?"""
    if place.outlook is None:
        return {}
    behind = float(place.outlook.lowest(level)) - float(place.finals.min())
    return {
        "catch_up_bound": float(np.mean(place.gap)) - behind,
        "predicted_final": float(place.outlook.final),
        "prediction_sd": float(place.outlook.sd),
        "df": int(place.outlook.df),
        "behind_best": behind,
    }


def against_running(place: RelativePosition, siblings: Sequence[TrialCurve], level: float) -> dict[str, Any]:
    """Evidence from the regression: is the trial behind a running one that has come as far?"""
    trial, outlook, at = place.trial, place.outlook, place.heldout_at
    if outlook is None:
        return {}
    found = []
    for other in siblings:
        ready = other.warmup_samples <= place.window.start and other.seen >= trial.seen and _is_paired(trial, other)
        if ready and np.all(np.isfinite(other.nll)) and (at is None or at in other.heldout):
            features = relative_features(_features([other], place.window, at), place.own)[0]
            found.append((float(outlook.lowest_behind(features, level)), other.trial_id))
    if not found:
        return {}
    behind, other_id = max(found)
    return {"running_best": other_id, "behind_running": behind}
