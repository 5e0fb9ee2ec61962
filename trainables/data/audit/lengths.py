"""Responses of a length that the others hardly have."""

from __future__ import annotations

import numpy as np

# Ours. The usual cut is 3.5 (Iglewicz & Hoaglin 1993), for lengths that are normal; those of answers have long tails.
MOST_DEVIATIONS = 6.0
LEAST_RATIO = 8.0
LEAST_SPREAD = 0.25  # of log lengths: in data of equal lengths a response is no outlier for one word more
FEWEST_SAMPLES = 50
MAD_TO_DEVIATION = 1.4826  # of a normal distribution


def unusual_lengths(characters: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows whose log length is far from the median, in robust deviations and in plain ratio; and the median length.

    Args:
        characters: (samples,) lengths of the responses, 1 and up.
    """
    if len(characters) < FEWEST_SAMPLES:
        return np.empty(0, np.int64), 0.0
    logs = np.log(characters)
    median = np.median(logs)
    distance = np.abs(logs - median)
    spread = max(MAD_TO_DEVIATION * float(np.median(distance)), LEAST_SPREAD)
    far = (distance > MOST_DEVIATIONS * spread) & (distance > np.log(LEAST_RATIO))
    return np.flatnonzero(far), float(np.exp(median))
