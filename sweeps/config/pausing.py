"""Pauses trials early and lets the best go on: how many, and which. Pure.

Every search trial but the first is paused after `PAUSE_AT` of its epoch and scored there on the held-out areas. When
all have come so far, those with the best scores go on from their stored states, to the end; trials that share nearly
one LR make room for another LR first. The LR schedule is fixed before a trial begins, so that a pause changes no step
of it. The first trial is never paused: finished, it shows what the rest of an epoch brings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.stats.objective_model import fit_settings

# Fraction of the epoch. An audit replayed recorded sweeps: the ranking by held-out scores was good enough here. At an
# eighth of the epoch 15 to 51 % of the sweeps lost their best trial; running losses in place of held-out scores lost it
# in 21 to 33 %.
PAUSE_AT = 0.25
# Fewer trials are all trained to the end: two or three finished ones would not show a curve over the LR. Ours.
LEAST_TRIALS = 6
# Trials that go on lie at least this far apart, in decades of the peak LR, while there are such: 15 %. Without this
# those that finished often shared nearly one LR, and the model of the finished had no curve to name a setting by: twice
# the regret (docs/decisions/0019). Ours.
APART = 0.06


def trials_to_finish(trials: int) -> int:
    """How many of a sweep's search trials are trained to the end, if none diverges: a quarter of them and two more.

    In replays of recorded sweeps of 6 to 64 trials under one seed, at most 4 % ended with a winner worse, by more than
    the sd between seeds, than that of the same sweep without pauses. Ours.
    """
    return trials if trials < LEAST_TRIALS else math.ceil(trials / 4) + 2


def pauses(number: int, trials: int) -> bool:
    """Whether the search trial with this number, from 1, pauses in a sweep of so many trials."""
    return number > 1 and trials_to_finish(trials) < trials


def epochs_to_train(trials: int) -> float:
    """Epochs that a search of so many trials trains at most, if none diverges or is stopped."""
    finished = trials_to_finish(trials)
    return finished + PAUSE_AT * (trials - finished)


def choose(
    scores: Mapping[str, float],
    settings: Mapping[str, Mapping[str, float | str]],
    finished_lrs: Sequence[float],
    trials: int,
) -> list[str]:
    """Chooses the paused trials that go on.

    Args:
        scores: Held-out objective of each paused trial where it paused, nats a token, by trial id.
        settings: Hyper-parameters of each paused trial, by trial id.
        finished_lrs: Peak LRs of the search trials that were trained to the end already.
        trials: Search trials of the sweep.

    Returns:
        Their ids, best first; at least one where there is one. They lie `APART` decades from each other and from the
        finished ones as far as there are such; the rest are the next best.
    """
    wanted = max(1, trials_to_finish(trials) - len(finished_lrs))
    worth = _worth({trial_id: score for trial_id, score in scores.items() if math.isfinite(score)}, settings)
    ranked = sorted(worth, key=lambda trial_id: (worth[trial_id], trial_id))
    decades, chosen = [math.log10(lr) for lr in finished_lrs], []
    for trial_id in ranked:
        own = math.log10(float(settings[trial_id]["peak_lr"]))
        if all(abs(own - other) >= APART for other in decades):
            decades.append(own)
            chosen.append(trial_id)
    others = [trial_id for trial_id in ranked if trial_id not in chosen]
    return sorted([*chosen, *others][:wanted], key=ranked.index)


def _worth(scores: Mapping[str, float], settings: Mapping[str, Mapping[str, float | str]]) -> dict[str, float]:
    """What the model of all paused trials says of each, where it can be fitted; else their scores.

    The model keeps apart what a setting is worth and what its seed adds, as at the end of a sweep.
    """
    model = fit_settings([settings[name] for name in scores], np.array([*scores.values()]))
    return dict(scores) if model is None else dict(zip(scores, model.mean.tolist(), strict=True))


def predicted_final(score: float, falls: Mapping[str, float]) -> float:
    """Predicts a paused trial's final objective: its score less the mean fall of finished trials since that point.

    Args:
        score: Its held-out objective where it paused, nats a token.
        falls: Objective at `PAUSE_AT` less the final one of each finished trial, by id; without any the score itself.
    """
    known = [fall for fall in falls.values() if math.isfinite(fall)]
    return score - (math.fsum(known) / len(known) if known else 0.0)
