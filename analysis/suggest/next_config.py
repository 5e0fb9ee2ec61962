"""Writes the next sweep's config, with the reason above each change."""

from __future__ import annotations

import copy
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from analysis.output.leaderboard import Leaderboard
from analysis.rank.leaderboard import leaderboard
from analysis.records.json_files import read_json
from analysis.records.lineage import link_to
from analysis.records.locate import place_of
from analysis.records.sweep import Sweep, read_sweep
from analysis.stats.seed_variance import STATED_DF
from analysis.suggest.advice import Advice, advise, changes
from analysis.suggest.observe import observe, searched
from trainables.storage.layout import PLAN_FILE

WIDTH = 110
POINTS = 4
NOTHING = "The evidence asks for no change: this is the same sweep again, from where the last one ended."


def suggest(folder: str | Path) -> str:
    """Suggests the next sweep's config, as YAML.

    It has the changes that the evidence asks for, a new name, a link to its parent, the parent's folder as warm start,
    the parent's best settings as first points, and the spread between seeds if replicates measured it.

    Raises:
        UserError: The folder is no sweep's, or a file in it can't be read.
    """
    folder = Path(folder).absolute()  # the next sweep may be run elsewhere
    sweep, board = read_sweep(folder), leaderboard(folder)
    advice = advise(observe(sweep, board, read_json(sweep.folder / PLAN_FILE)))
    wanted = {**changes(advice), **_lineage(sweep), **_seed_sd(board)}
    if reason := _beyond(sweep, advice):
        wanted["space.beyond_recommended"] = (reason, "needed where a range leaves the recommended bounds")
    config = copy.deepcopy(sweep.config)
    for key, (value, _) in wanted.items():
        _set(config, key, value)
    if points := _points(board, config):
        wanted["search.seed_points"] = (points, f"the best settings of {sweep.name} that lie in this space")
        _set(config, "search.seed_points", points)
    reasons = {key: _said(sweep.config, key, reason) for key, (_, reason) in wanted.items()}
    return "\n".join([*_head(sweep, board, advice), *_emit(config, reasons)]) + "\n"


def next_name(name: str) -> str:
    """Raises the trailing number of a name: `demo`, `demo-2`, `demo-3`."""
    found = re.fullmatch(r"(.+)-(\d+)", name)
    return f"{found[1]}-{int(found[2]) + 1}" if found else f"{name}-2"


def _lineage(sweep: Sweep) -> dict[str, tuple[Any, str]]:
    return {
        "name": (next_name(sweep.name), "a sweep never writes into another's folder"),
        "parent": (link_to(sweep.folder, sweep.name), f"links this sweep to {sweep.name}"),
        "search.warm_start": ([place_of(sweep.folder)], f"the sampler learns from {sweep.name}"),
    }


def _seed_sd(board: Leaderboard) -> dict[str, tuple[Any, str]]:
    separation: Mapping[str, Any] = board["separation"] or {}
    df = separation.get("seed_sd_unblocked_df")
    # Replicates replace a stated spread only if they measured it with as many degrees of freedom as a statement has.
    if separation.get("seed_sd_source") != "replicates" or df is None or df < STATED_DF:
        return {}
    reason = f"the spread between seeds that replicates measured, with {df:g} degrees of freedom"
    return {"confirm.seed_sd": (float(f"{separation['seed_sd_unblocked']:.3g}"), reason)}


def _beyond(sweep: Sweep, advice: list[Advice]) -> str | None:
    # A range beyond the recommended bounds needs a reason in the config: the parent's, then that of each widening.
    spans, widened = searched(sweep.config), []
    for one in advice:
        for key, value in one.changes.items():
            section, _, rest = key.partition(".")
            name, _, end = rest.partition(".")
            if section == "space" and name in spans:
                outward = value < spans[name].low if end == "low" else value > spans[name].high
                widened += [one.reason] if outward and one.reason not in widened else []
    before = (sweep.config.get("space") or {}).get("beyond_recommended")
    reasons = [*([before] if before else []), *(f"{sweep.name}: {reason}" for reason in widened)]
    return "; ".join(reasons) if widened else None


def _points(board: Leaderboard, config: Mapping[str, Any]) -> list[dict[str, float]]:
    # The winner and the settings tied with it, if inside the new ranges: the config check refuses points outside.
    spans, found = searched(config), []
    for row in board["rows"]:
        params = {**row["params"], **(row["drawn"] or {})}
        inside = all(name in params and span.low <= params[name] <= span.high for name, span in spans.items())
        if (row["rank"] == 1 or row["tied"]) and inside:
            found.append({name: params[name] for name in spans})
    return found[:POINTS]


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        if not isinstance(config.get(section), dict):
            config[section] = {}
        config = config[section]
    config[leaf] = value


def _said(config: Mapping[str, Any], key: str, reason: str) -> str:
    before: Any = config
    for part in key.split("."):
        before = before.get(part) if isinstance(before, dict) else None
    return reason if before in (None, []) else f"{reason} (was {_scalar(before)})"


def _head(sweep: Sweep, board: Leaderboard, advice: list[Advice]) -> Iterator[str]:
    yield from _comment(f"The sweep after {sweep.name}. {board['verdict']}", "")
    yield from _comment(NOTHING, "") if not advice else ()
    for one in advice:
        if not one.changes:  # advice that no config value carries out
            yield from _comment(f"To do beside it: {one.reason}.", "")


def _emit(node: Mapping[str, Any], reasons: Mapping[str, str], path: str = "", indent: str = "") -> Iterator[str]:
    for key, value in node.items():
        dotted = f"{path}{key}"
        if dotted in reasons:
            yield from _comment(reasons[dotted], indent)
        if isinstance(value, dict) and value:
            yield f"{indent}{_scalar(key)}:"
            yield from _emit(value, reasons, f"{dotted}.", f"{indent}  ")
        else:
            yield f"{indent}{_scalar(key)}: {_scalar(value)}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _scalar(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)  # a JSON string is a double-quoted scalar of YAML
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()
