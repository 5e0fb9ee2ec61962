"""PURE. A finding over several trials: the winner owes its win to one area and loses on the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainables.diagnostics.finding import Evidence, Finding
from trainables.diagnostics.generalization import Items, paired_rise

ALPHA = 0.01  # one-sided, shared out among the areas (Bonferroni)


def one_area_winner(
    step: int,
    winner: Items,
    others: Mapping[str, Items],
    groups: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
) -> Finding | None:
    """Finds a winner that is significantly better than the others' mean on one area only, and worse on some other.

    Args:
        step: Of the winning checkpoint.
        winner: Each selecting area's items' mean losses of the winning checkpoint.
        others: The same of the other trials' best checkpoints, by trial.
        groups: Each item's cluster, by area and in the items' order.
        weights: Weight of each area in the objective, for the advice.

    Returns:
        None also with fewer than two areas or no other trial.
    """
    if len(winner) < 2 or not others:
        return None
    level = ALPHA / len(winner)
    better, worse = [], []
    evidence: Evidence = {"trials": len(others) + 1, "from_step": step, "to_step": step}
    for area, items in winner.items():
        usual = np.mean([other[area] for other in others.values()], axis=0)
        gain = paired_rise(usual.tolist(), items, groups[area])
        loss = paired_rise(items, usual.tolist(), groups[area])
        if gain is None or loss is None:
            continue
        evidence[f"gain_on_{area}"] = gain.value
        if gain.above_zero_p < level:
            better.append(area)
        elif loss.above_zero_p < level:
            worse.append(area)
        elif gain.value > 0.0:
            return None  # not significant, but not lost either
    if len(better) != 1 or not worse:
        return None
    won = better[0]
    evidence["won"], evidence["lost"] = won, ", ".join(worse)
    advice = (
        f"the winner wins by {won} alone: if the other areas matter as much, try heldout.areas.{won}.weight "
        f"{weights[won] / 2.0:g} (half of this sweep's), and see who wins with that area left out"
    )
    return Finding(rule="one_area_winner", severity="warning", step=step, evidence=evidence, advice=advice)
