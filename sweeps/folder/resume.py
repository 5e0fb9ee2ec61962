"""The config of a resumed sweep: what may change and what must stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.config.differences import differences
from sweeps.config.sweep_config import SweepConfig, load_config, read_tree
from trainables.errors import UserError, UserErrors
from trainables.storage.layout import LEDGER_FILE, PLAN_FILE, SWEEP_FILE
from trainables.storage.working_copy import parent_and_name, place_of

# Where a sweep runs and what it may cost. Anything else would make its trials incomparable.
MAY_CHANGE = (
    "resources",
    "wandb",
    "storage_path",
    "budget",
    "objective.when_enough",
    "training.micro_batch_tokens",
)
# Keys whose default has changed, and what a sweep did that lacks them.
BEFORE = {
    "search.trials": 16,
    "search.sampler": "gp",
    "search.seeds": 1,
    "confirm.budget": 0,
    "confirm.looks": "every_round",
}


def resumed_config(folder: Path, config_path: str | None, overrides: list[str]) -> SweepConfig:
    """Loads an interrupted sweep's config, with the changes that the user makes now.

    Args:
        folder: The sweep's folder, or a copy of its files in a store.
        config_path: A config that differs only in what may change; None for the sweep's own.
        overrides: `key=value` texts on top of it.

    Raises:
        UserError, UserErrors: There is no sweep, or something has changed that must stay as it was.
    """
    own = folder / SWEEP_FILE
    if missing := [name for name in (SWEEP_FILE, PLAN_FILE) if not (folder / name).is_file()]:
        known = (folder / LEDGER_FILE).is_file() and missing == [SWEEP_FILE]
        remedy = f"make it anew: python -m sweeps.rebuild {place_of(folder)}" if known else "check the path"
        got = f"{place_of(folder)} without {', '.join(missing)}"
        raise UserError("--resume", "must name the folder of a sweep", got, remedy)
    before = load_config(own, _as_before(own, own))
    now = load_config(config_path or own, [*_as_before(own, config_path or own), *overrides])
    wrong = [
        UserError(key, "must stay as it was in a resumed sweep", f"{new!r} after {old!r}", "start a sweep of its own")
        for key, old, new in differences(before.model_dump(), now.model_dump())
        if not f"{key}.".startswith(tuple(f"{allowed}." for allowed in MAY_CHANGE))
        and not (key == "search.trials" and new > old)
    ]
    if wrong:
        raise UserErrors(wrong)
    # The folder may have been moved since its config was written.
    parent, name = parent_and_name(place_of(folder))
    return now.model_copy(update={"name": name, "storage_path": parent})


def _as_before(own: Path, config: str | Path) -> list[str]:
    """Overrides for `config` that keep what the sweep of `own` did, where `config` lacks a key of `BEFORE`."""
    trees = read_tree(own, []), read_tree(config, [])
    stated = ((key, before, *(_value(tree, key) for tree in trees)) for key, before in BEFORE.items())
    return [f"{key}={before if mine is None else mine}" for key, before, mine, theirs in stated if theirs is None]


def _value(tree: dict[str, Any], key: str) -> Any:
    section, name = key.split(".")
    return (tree.get(section) or {}).get(name)
