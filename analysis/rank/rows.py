"""The leaderboard's rows: one a setting, with its checkpoints and replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from analysis.output.leaderboard import CheckpointName, Figures, LeaderboardRow, SettingFigures
from analysis.rank.candidates import Candidate
from analysis.rank.settings import SettingTable
from analysis.records.sweep import Trial


def make_rows(
    trials: Sequence[Trial], candidates: list[Candidate], figures: Mapping[tuple[str, int], Figures]
) -> list[LeaderboardRow]:
    """A row for each trial, without ranks yet; `figures` by (trial, step) are of the candidates that can be ranked."""
    rows = {trial.trial_id: _row(trial, candidates, figures) for trial in trials}
    searched = {trial.trial_id for trial in trials if trial.kind != "replicate"}
    # A replicate's row is put into its setting's; one of an unknown trial stays a row of its own.
    folded = {t.trial_id: t.replicate_of for t in trials if t.kind == "replicate" and t.replicate_of in searched}
    for name, setting in sorted(folded.items()):
        rows[str(setting)]["replicates"].append(rows[name])
    return [row for name, row in rows.items() if name not in folded]


def _row(trial: Trial, candidates: list[Candidate], figures: Mapping[tuple[str, int], Figures]) -> LeaderboardRow:
    unscored: Figures = {"objective": None}
    checkpoints = [
        {"step": c.step, "path": c.path, "defect": c.defect, **figures.get((trial.trial_id, c.step), unscored)}
        for c in candidates
        if c.trial_id == trial.trial_id
    ]
    scored = [c for c in checkpoints if c["objective"] is not None]
    best: Figures = min(scored, key=lambda c: (c["objective"], c["step"])) if scored else {}
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
        "objective": best.get("objective"),
        "gain": best.get("gain"),
        "gain_interval": best.get("gain_interval"),
        "behind": best.get("behind"),
        "behind_interval": best.get("behind_interval"),
        "token_weighted": best.get("token_weighted"),
        "trimmed": best.get("trimmed"),
        "exact_match": best.get("exact_match"),
        "token_f1": best.get("token_f1"),
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


def ordered(rows: list[LeaderboardRow], table: SettingTable, means: list[SettingFigures]) -> list[LeaderboardRow]:
    """The settings' rows with their ranks, by tier and figure (in `means`); then the rest."""
    by_id = {row["trial_id"]: row for row in rows}
    ranked = []
    for rank, k in enumerate(order_of(table, means), start=1):
        row = by_id.pop(table.settings[k])
        row["rank"], row["setting"] = rank, means[k]
        row["tied"] = rank > 1 and not means[k]["separated"]
        ranked.append(row)
    return ranked + sorted(by_id.values(), key=unranked_place)


def order_of(table: SettingTable, means: list[SettingFigures]) -> list[int]:
    """The settings' indices, best first, by tier and figure."""
    # Equals go by id (settings are sorted), so that the order of trials can't matter.
    return sorted(range(len(means)), key=lambda k: (table.tier(k), _figure(means[k]), k))


def _figure(setting: SettingFigures) -> float:
    posterior = setting.get("posterior")
    return setting["objective"] if posterior is None else posterior


def unranked_place(row: LeaderboardRow) -> tuple[bool, str, str]:
    """Sort key of rows without a rank: complete ones first, then by state."""
    return row["state"] != "complete", row["state"], row["trial_id"]


def pair(row: LeaderboardRow) -> CheckpointName:
    """A ranked row's own trial and its best checkpoint."""
    return {"trial_id": row["trial_id"], "step": cast(int, row["step"])}
