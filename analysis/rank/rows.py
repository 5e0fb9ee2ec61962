"""The leaderboard's rows: one a setting, with its checkpoints and its replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.rank.candidates import Candidate, Figures
from analysis.rank.sensitivity import HIGHEST_WINS, LOWEST_WINS
from analysis.rank.settings import SettingTable
from analysis.records.sweep import Trial

Row = dict[str, Any]

MEASURES = ("objective", "gain", "gain_interval", "behind", "behind_interval", *LOWEST_WINS, *HIGHEST_WINS)


def make_rows(
    trials: Sequence[Trial], candidates: list[Candidate], figures: Mapping[tuple[str, int], Figures]
) -> list[Row]:
    """A row for each trial, without ranks yet; a replicate's lies within its setting's.

    Args:
        trials: All that ended; a replicate of a trial that is not among them has a row of its own.
        candidates: All checkpoints of complete trials.
        figures: By (trial, step), of those that can be ranked.
    """
    rows = {trial.trial_id: _row(trial, candidates, figures) for trial in trials}
    searched = {trial.trial_id for trial in trials if trial.kind != "replicate"}
    folded = sorted(t.trial_id for t in trials if t.kind == "replicate" and t.replicate_of in searched)
    for name in folded:
        rows[rows[name]["replicate_of"]]["replicates"].append(rows[name])
    return [row for name, row in rows.items() if name not in folded]


def _row(trial: Trial, candidates: list[Candidate], figures: Mapping[tuple[str, int], Figures]) -> Row:
    """One trial's row: its best checkpoint's figures, and all checkpoints within."""
    checkpoints = [
        {
            "step": c.step,
            "path": c.path,
            "defect": c.defect,
            **figures.get((trial.trial_id, c.step), {"objective": None}),
        }
        for c in candidates
        if c.trial_id == trial.trial_id
    ]
    scored = [c for c in checkpoints if c["objective"] is not None]
    best = min(scored, key=lambda c: (c["objective"], c["step"])) if scored else {}
    if trial.state != "complete":
        checkpoints = [{"step": c.get("step"), "path": c.get("path"), "objective": None} for c in trial.checkpoints]
    return {
        "rank": None,
        "tied": False,
        "trial_id": trial.trial_id,
        "step": best.get("step"),
        "state": trial.state,
        "kind": trial.kind,
        "replicate_of": trial.replicate_of,
        "seed": trial.seed,
        "params": dict(trial.params),
        "drawn": dict(trial.drawn) if trial.drawn else None,
        **{name: best.get(name) for name in MEASURES},
        "areas": best.get("areas", {}),
        "checkpoints": checkpoints,
        "setting": None,
        "replicates": [],
        "best": None,
        "guard_rails": {},
        "guard_rail": None,
        "findings": len(trial.findings),
        "cost": dict(trial.cost),
        "steps": trial.steps,
        "steps_planned": trial.steps_planned,
        "error": trial.error,
    }


def ordered(rows: list[Row], setting_table: SettingTable, means: list[Figures]) -> list[Row]:
    """The settings' rows with their ranks, by tier and figure; then the rest.

    Equals go by id, so that the order of trials can't matter.

    Args:
        rows: All rows.
        setting_table: The settings.
        means: Their figures, as `analysis.rank.settings.setting_figures` gives them.
    """
    by_id = {row["trial_id"]: row for row in rows}
    order = sorted(range(len(means)), key=lambda k: (setting_table.tier(k), means[k]["objective"], k))
    ranked = []
    for rank, k in enumerate(order, start=1):
        tied = rank > 1 and not means[k]["separated"]
        ranked.append({**by_id.pop(setting_table.settings[k]), "rank": rank, "tied": tied, "setting": means[k]})
    return ranked + sorted(by_id.values(), key=unranked_place)


def unranked_place(row: Row) -> tuple[bool, str, str]:
    """Sorts rows without a rank: complete ones first, then by state."""
    return row["state"] != "complete", row["state"], row["trial_id"]


def pair(row: Row) -> dict[str, Any]:
    """A row's own trial and its best checkpoint."""
    return {"trial_id": row["trial_id"], "step": row["step"]}
