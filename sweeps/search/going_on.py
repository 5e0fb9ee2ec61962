"""Which of the paused trials of a search go on. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.stats.objective_model import fit_settings
from sweeps.config.pausing import trials_to_finish

# Trials that go on lie at least this far apart, in decades of the peak LR, while there are such: 15 %. Without this
# those that finished often shared nearly one LR, and the model of the finished had no curve to name a setting by: twice
# the regret (docs/decisions/0019). Ours.
APART = 0.06


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
