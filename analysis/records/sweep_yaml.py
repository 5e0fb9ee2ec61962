"""The ranking's part of `sweep.yaml`, read as plain YAML: sweeps of earlier versions lack some of the keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from analysis.stats.multiple_comparisons import ALPHA, ROUNDS, Separation, replicates_at_most
from trainables.errors import UserError
from trainables.storage.layout import SWEEP_FILE
from trainables.storage.working_copy import place_of

RESTORE = "restore the file that the sweep wrote"
ROLES = ("select", "sealed")
LOOKS = ("every_round", "auto")  # the first is what sweeps did that lack the key


@dataclass(frozen=True)
class RankingConfig:
    """The held-out areas' roles in the ranking."""

    weights: dict[str, float]  # weight of each area that selects, above 0
    sealed: tuple[str, ...] = ()  # areas that never count in the ranking
    # Guard-rails: nats a token by which a checkpoint may be worse than the base model in an area that selects; areas
    # without one are left out
    not_worse_by: dict[str, float] = field(default_factory=dict)
    separation: Separation = field(default_factory=Separation)  # when settings count as different


def read_config(folder: Path) -> dict[str, Any]:
    """Reads `sweep.yaml`. Careful: plain YAML gives `1e-4` as a string.

    Raises:
        UserError: The folder is no sweep's, or the file can't be read.
    """
    path = folder / SWEEP_FILE
    if not path.is_file():
        got = "a folder without sweep.yaml" if folder.is_dir() else "no such folder"
        inside = sorted(found.parent.name for found in folder.glob("*/sweep.yaml"))
        remedy = f"give one of the sweeps in it: {', '.join(inside)}" if inside else "give <storage_path>/<name>"
        raise UserError(place_of(folder), "must be the folder of a sweep", got, remedy)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(str(path), "must be YAML in UTF-8", error, RESTORE) from error
    if not isinstance(config, dict):
        raise UserError(str(path), "must be a mapping", type(config).__name__, RESTORE)
    return config


def read_ranking(config: Mapping[str, Any], path: Path) -> RankingConfig:
    """Reads the areas' weights, roles and guard-rails, and `confirm`; `path` is the file's, for errors.

    Raises:
        UserError: No area selects, or a value is out of range.
    """
    # A missing key means what it meant to the version that wrote the config: every area selects, none has a guard-rail,
    # no seed variance is stated.
    section = config.get("heldout")
    areas = section.get("areas") if isinstance(section, dict) else None
    if not isinstance(areas, dict) or not areas:
        raise UserError(f"{path} heldout.areas", "must name at least one area", areas, RESTORE)
    weights, sealed, not_worse_by = {}, [], {}
    for name, area in ((str(name), area if isinstance(area, dict) else {}) for name, area in areas.items()):
        where, role = f"{path} heldout.areas.{name}", area.get("role", "select")
        if role not in ROLES:
            raise UserError(f"{where}.role", f"must be one of {', '.join(ROLES)}", role, RESTORE)
        weight = _number(area.get("weight", 1.0), f"{where}.weight")
        if role == "sealed":
            sealed.append(name)
            continue
        weights[name] = weight
        if area.get("not_worse_by") is not None:
            not_worse_by[name] = _number(area["not_worse_by"], f"{where}.not_worse_by", zero=True)
    if not weights:
        raise UserError(f"{path} heldout.areas", "must have an area that selects", "only sealed ones", RESTORE)
    return RankingConfig(weights, tuple(sealed), not_worse_by, _separation(config, path))


def _separation(config: Mapping[str, Any], path: Path) -> Separation:
    section, search = (config.get(name) for name in ("confirm", "search"))
    given = section if isinstance(section, dict) else {}
    found = {key: given[key] for key in ("alpha", "seed_sd", "rounds", "budget") if given.get(key) is not None}
    if found.get("budget") == "auto":
        trials = search.get("trials") if isinstance(search, dict) else None
        found["budget"] = replicates_at_most("auto", int(_number(trials, f"{path} search.trials")))
    looks = given.get("looks", LOOKS[0])
    if looks not in LOOKS:
        raise UserError(f"{path} confirm.looks", f"must be one of {', '.join(LOOKS)}", looks, RESTORE)
    numbers = {key: _number(value, f"{path} confirm.{key}", zero=key == "budget") for key, value in found.items()}
    for key, high in (("alpha", 1.0), ("rounds", ROUNDS)):
        if numbers.get(key, 0.0) > high:
            raise UserError(f"{path} confirm.{key}", f"must be at most {high:g}", found[key], RESTORE)
    return Separation(
        alpha=numbers.get("alpha", ALPHA),
        seed_sd=numbers.get("seed_sd"),
        rounds=int(numbers.get("rounds", ROUNDS)),
        budget=int(numbers["budget"]) if "budget" in numbers else None,
        looks="auto" if looks == "auto" else "every_round",
    )


def _number(value: Any, where: str, zero: bool = False) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (0 < number < math.inf or (zero and number == 0)):
        rule = "must be 0 or above" if zero else "must be above 0"
        raise UserError(where, rule, value, f"give a number {rule.removeprefix('must be ')}")
    return number
