"""Writes the next sweep's config, with the reason above each change."""

from __future__ import annotations

import copy
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analysis.advice.advice import SMALL_NUMBER, changes
from analysis.advice.evidence import Advice
from analysis.advice.observe import searched
from analysis.output.formats import rate
from analysis.output.leaderboard import Leaderboard
from analysis.rank.leaderboard import leaderboard
from analysis.records.lineage import full_place, link_to, plain_name
from analysis.records.locate import place_of
from analysis.records.sweep import Sweep, read_sweep
from analysis.stats.seed_variance import STATED_DF

WIDTH, SCREEN = 110, 80
LINKS = ("name", "parent", "search.warm_start", "search.seed_points", "space.beyond_recommended")
POINTS = 4
NOTHING = "No result asks for a change of the search: this is the same sweep again, with new seeds."


@dataclass(frozen=True)
class Change:
    """A value of the next config that differs from this sweep's."""

    key: str  # dotted
    before: Any  # None where the config had none
    after: Any
    reason: str


@dataclass(frozen=True)
class NextSweep:
    """The next sweep."""

    name: str
    text: str  # its config as YAML, the reason above each change
    changes: list[Change]  # those that the results ask for, then those that link it to this sweep
    beside: list[str]  # advice that no config value carries out


def suggest(folder: str | Path) -> NextSweep:
    """Suggests the next sweep.

    It has the changes that the evidence asks for, a new name, a link to its parent, the parent's folder as warm start,
    the parent's best settings as first points, seeds that no trial of the parent had, and the spread between seeds if
    replicates measured it.

    Raises:
        UserError: The folder is no sweep's, or a file in it can't be read.
    """
    folder = Path(folder).absolute()  # the next sweep may be run elsewhere
    sweep, board = read_sweep(folder), leaderboard(folder)
    advice = [Advice(**one) for one in board["advice"]]
    wanted = {**changes(advice), **_seed_sd(board), **_new_seeds(sweep), **_lineage(sweep)}
    if reason := _beyond(sweep, advice):
        wanted["space.beyond_recommended"] = (reason, "needed where a range leaves the recommended bounds")
    config = copy.deepcopy(sweep.config)
    for key, (value, _) in wanted.items():
        _set(config, key, value)
    if points := _points(board, config):
        wanted["search.seed_points"] = (points, f"the best settings of {sweep.name} that lie in this space")
        _set(config, "search.seed_points", points)
    made = [Change(key, _value(sweep.config, key), value, reason) for key, (value, reason) in wanted.items()]
    reasons = {one.key: _said(one) for one in made}
    text = "\n".join([*_head(sweep, board, advice), *_emit(config, reasons)]) + "\n"
    return NextSweep(config["name"], text, made, [one.reason for one in advice if not one.changes])


def changes_in_words(found: NextSweep) -> Iterator[str]:
    """What differs from this sweep, for the terminal: each change with its reason below it."""
    yield f"Next sweep: {found.name}"
    own = [one for one in found.changes if one.key not in LINKS]
    said: list[str] = []
    for one in own:
        before = "" if one.before in (None, []) else f"{_short(one.before)} → "
        yield f"  {one.key}: {before}{_short(one.after)}"
        if one.reason not in said:
            yield from textwrap.wrap(one.reason, SCREEN, initial_indent="      ", subsequent_indent="      ")
            said.append(one.reason)
    if not own:
        yield f"  {NOTHING}"
    links = ", ".join(one.key for one in found.changes if one.key in LINKS)
    yield from textwrap.wrap(f"  Links to this sweep: {links}", SCREEN, subsequent_indent="      ")
    for reason in found.beside:
        yield from textwrap.wrap(f"To do besides: {reason}", SCREEN, subsequent_indent="  ")


def next_name(name: str) -> str:
    """Raises the trailing number of a name: `demo`, `demo-2`, `demo-3`."""
    name = plain_name(name)
    found = re.fullmatch(r"(.+)-(\d+)", name)
    return f"{found[1]}-{int(found[2]) + 1}" if found else f"{name}-2"


def _lineage(sweep: Sweep) -> dict[str, tuple[Any, str]]:
    return {
        "name": (next_name(sweep.name), "a sweep never writes into another's folder"),
        "parent": (link_to(sweep.folder, sweep.name), f"links this sweep to {sweep.name}"),
        "search.warm_start": ([full_place(place_of(sweep.folder))], f"the sampler learns from {sweep.name}"),
    }


def _short(value: Any) -> str:
    small = (
        isinstance(value, float | str) and re.fullmatch(r"[\d.e+-]+", str(value)) and 0 < float(value) < SMALL_NUMBER
    )
    return rate(float(value)) if small else scalar(value)


def _new_seeds(sweep: Sweep) -> dict[str, tuple[Any, str]]:
    # The same setting with the same data and seed is the same trial again, to the bit. With another seed it is news.
    seeds = [trial.seed for trial in sweep.trials if trial.seed is not None]
    reason = f"No trial of {sweep.name} is trained again with the same seed."
    return {"seed": (max(seeds) + 1, reason)} if seeds else {}


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


def _value(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _said(one: Change) -> str:
    return one.reason if one.before in (None, []) else f"{one.reason} (was {scalar(one.before)})"


def _head(sweep: Sweep, board: Leaderboard, advice: list[Advice]) -> Iterator[str]:
    yield from _comment(f"The sweep after {sweep.name}. {board['verdict']}", "")
    yield from _comment(NOTHING, "") if not advice else ()
    for one in advice:
        if not one.changes:  # advice that no config value carries out
            yield from _comment(f"To do besides: {one.reason}", "")


def _emit(node: Mapping[str, Any], reasons: Mapping[str, str], path: str = "", indent: str = "") -> Iterator[str]:
    for key, value in node.items():
        dotted = f"{path}{key}"
        if dotted in reasons:
            yield from _comment(reasons[dotted], indent)
        if isinstance(value, dict) and value:
            yield f"{indent}{scalar(key)}:"
            yield from _emit(value, reasons, f"{dotted}.", f"{indent}  ")
        else:
            yield f"{indent}{scalar(key)}: {scalar(value)}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def scalar(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)  # a JSON string is a double-quoted scalar of YAML
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()
