"""Collects the evidence for `analysis.advice.advice` from a sweep's folder and leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.advice.evidence import Setting, Span, SweepEvidence
from analysis.output.board_figures import (
    answer_metrics,
    best_checkpoint,
    cut_answers,
    mean_of,
    metric_label,
    regressions,
)
from analysis.output.leaderboard import Leaderboard
from analysis.records.sweep import Sweep

STILL_FALLING = "still_falling"


def observe(sweep: Sweep, board: Leaderboard, plan: Mapping[str, Any] | None) -> SweepEvidence:
    """Collects the evidence; `plan` is None for a sweep without `plan.json`."""
    config, space = sweep.config, searched(sweep.config)
    ranked = [row for row in board["rows"] if row["rank"] is not None]
    searched_trials = [trial for trial in sweep.trials if trial.kind == "search" and trial.state != "failed"]
    separation = board["separation"]
    seeds_known = separation is None or separation["seed_sd_source"] != "unknown"
    winner = next((trial for trial in sweep.trials if ranked and trial.trial_id == ranked[0]["trial_id"]), None)
    return SweepEvidence(
        space=space,
        settings=[_setting(row, seeds_known) for row in ranked],
        seeds_known=seeds_known,
        diverged=[{**trial.params, **(trial.drawn or {})} for trial in searched_trials if trial.state == "diverged"],
        ended=len(searched_trials),
        gain=_gain(board),
        still_falling=winner is not None and any(one.get("rule") == STILL_FALLING for one in winner.findings),
        more_data=(board.get("more_data") or {}).get("verdict") or "not measured",
        worse=regressions(board) if ranked else {},
        data_limit=_binding_limit(config, plan),
        max_grad_norm=float(_section(config, "training").get("max_grad_norm", 1.0)),
        confirm_budget=sweep.separation.budget or 0,
        trials=int(_section(config, "search").get("trials", len(searched_trials))),
        cut_answers=_cut(board, config) if ranked else {},
        answers_decide=sweep.measure.higher_is_better,
        none_right=_none_right(board) if ranked else None,
        steps=winner.steps_planned if winner else None,
        samples=winner.samples_seen if winner else None,
    )


def searched(config: Mapping[str, Any]) -> dict[str, Span]:
    """The searched ranges of a sweep's config by name."""
    found = {}
    for name, value in _section(config, "space").items():
        if isinstance(value, dict) and {"low", "high"} <= value.keys():
            # float(): plain YAML reads 1e-4 as text.
            found[str(name)] = Span(float(value["low"]), float(value["high"]), bool(value.get("log", False)))
    return found


def _setting(row: Mapping[str, Any], seeds_known: bool) -> Setting:
    # Without the seeds' spread nothing is called different, yet the next search has to go somewhere: then the held-out
    # items decide. That is a direction to look in, and no claim.
    behind = row["behind_interval"]
    by_items = row["rank"] != 1 and (behind is None or behind[0] <= 0)
    return Setting(
        trial_id=row["trial_id"],
        # As drawn, but for what did nothing in the trial and thus isn't among its params.
        params={name: (row["drawn"] or {}).get(name, value) for name, value in row["params"].items()},
        tied=bool(row["tied"]) if seeds_known else by_items,
        replicated=bool((row.get("setting") or {}).get("replicated")),
        passes=row.get("guard_rail") in (None, "pass"),
    )


def _gain(board: Leaderboard) -> tuple[float, float] | None:
    gain = board.get("winner_gain")
    interval = gain and (gain["corrected_interval"] or gain["plain_interval"])
    return (interval[0], interval[1]) if interval else None


def _cut(board: Leaderboard, config: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    areas = _section(_section(config, "heldout"), "areas")
    found = cut_answers(best_checkpoint(board).get("areas") or {})
    limits = {area: _section(areas, area).get("max_new_tokens") for area in found}
    return {area: (*found[area], int(limit)) for area, limit in limits.items() if limit is not None}


def _none_right(board: Leaderboard) -> str | None:
    # The first metric of answers: exact match, where there is one.
    areas = best_checkpoint(board).get("areas") or {}
    names = [name for name in answer_metrics(board) if mean_of(board, areas, name) == 0]
    return metric_label(names[0]) if names else None


def _binding_limit(config: Mapping[str, Any], plan: Mapping[str, Any] | None) -> int | None:
    # A limit above the file's number of lines leaves nothing out.
    limit = _section(config, "data").get("limit")
    lines = ((plan or {}).get("audit") or {}).get("train", {}).get("lines")
    return int(limit) if limit is not None and (lines is None or lines >= limit) else None


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}
