"""Pauses trials early and lets the best go on: when, and how many. `sweeps.search.going_on` says which. Pure.

Every search trial but the first is paused after `PAUSE_AT` of its epoch and scored there on the held-out areas. When
all have come so far, those with the best scores go on from their stored states, to the end; trials that share nearly
one LR make room for another LR first. The LR schedule is fixed before a trial begins, so that a pause changes no step
of it. The first trial is never paused: finished, it shows what the rest of an epoch brings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

# Fraction of the epoch. An audit replayed recorded sweeps: the ranking by held-out scores was good enough here. At an
# eighth of the epoch 15 to 51 % of the sweeps lost their best trial; running losses in place of held-out scores lost it
# in 21 to 33 %.
PAUSE_AT = 0.25
# Fewer trials are all trained to the end: two or three finished ones would not show a curve over the LR. Ours.
LEAST_TRIALS = 6


def trials_to_finish(trials: int) -> int:
    """How many of a sweep's search trials are trained to the end, if none diverges: a quarter of them and two more.

    In replays of recorded sweeps of 16 trials with today's choice of who goes on, 0 to 4 % (95 % interval of the worst
    recording: 2.3 to 6.9 %) ended with a winner worse, by more than the sd between seeds, than that of the same sweep
    without pauses (`python -m benchmarks.pruning --alone --short`; `--trials` for other sizes). Ours.
    """
    return trials if trials < LEAST_TRIALS else math.ceil(trials / 4) + 2


def pauses(number: int, trials: int) -> bool:
    """Whether the search trial with this number, from 1, pauses in a sweep of so many trials."""
    return number > 1 and trials_to_finish(trials) < trials


def epochs_to_train(trials: int) -> float:
    """Epochs that a search of so many trials trains at most, if none diverges or is stopped."""
    finished = trials_to_finish(trials)
    return finished + PAUSE_AT * (trials - finished)


def predicted_final(score: float, falls: Mapping[str, float]) -> float:
    """Predicts a paused trial's final objective: its score less the mean fall of finished trials since that point.

    Args:
        score: Its held-out objective where it paused, nats a token.
        falls: Objective at `PAUSE_AT` less the final one of each finished trial, by id; without any the score itself.
    """
    known = [fall for fall in falls.values() if math.isfinite(fall)]
    return score - (math.fsum(known) / len(known) if known else 0.0)
