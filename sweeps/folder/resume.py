"""The config of a resumed sweep: what may change and what must stay."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from pydantic import ValidationError

from sweeps.config.differences import differences
from sweeps.config.paths import with_absolute_paths
from sweeps.config.sweep_config import ANY_NAME, SweepConfig, load_written, read_tree
from sweeps.ledger.ledger import Event, Ledger
from trainables.errors import UserError, UserErrors
from trainables.redaction import redact, redact_all
from trainables.storage.layout import LEDGER_FILE, PLAN_FILE, SWEEP_FILE, TRIALS_FILE
from trainables.storage.working_copy import parent_and_name, place_of

# Keys that may change, with the keys below them, and how. Anything else would make the sweep's trials incomparable.
# docs/howto/resume.md has the same table.
MAY_CHANGE = {
    "search.trials": "upwards",
    "budget": "as you like",
    "resources": "as you like, `workers_per_lane` (a factor of the batch) and `shard` (rounding in bf16) aside",
    "heldout.batch_tokens": "as you like",
    "heldout.answer_batch_size": "as you like",
    "objective.statement": "as you like",
    "objective.when_enough": "as you like",
    "space.beyond_recommended": "as you like",
    "training.micro_batch_tokens": "as you like: the losses stay the same up to rounding",
    "wandb": "as you like",
    "mlflow": "as you like",
    "notify": "as you like",
    "storage_path": "the folder may be moved: where it lies counts",
    "name": "the folder may be renamed: its name counts",
    "model.name": "to another place, or another name, of the same files",
    "model.revision": "to another name of the same files",
    "data.train": "to another place of the same file",
    "heldout.areas.*.path": "to another place of the same file",
}
MUST_STAY = ("resources.workers_per_lane", "resources.shard")  # though they are below one of those

# Keys whose default has changed, and what a sweep did that lacks them.
BEFORE = {
    "search.trials": 16,
    "search.sampler": "gp",
    "search.seeds": 1,
    "search.trial_scheduler": "evidence",
    "confirm.budget": 0,
    "confirm.looks": "every_round",
    "resources.shard": False,
    "data.train_on_template_text": True,
}
STAYS = "must stay as it was in a resumed sweep"


def resumed_config(folder: Path, config_path: str | None, overrides: list[str]) -> SweepConfig:
    """Loads an interrupted sweep's config, with the changes that the user makes now.

    It is compared with the config of the sweep's first start in the ledger, not with `sweep.yaml`, which may have been
    edited. Whether changed paths name the same files is left to `sweeps.folder.origin.changed_files`.

    Args:
        folder: The sweep's folder, or a copy of its files in a store.
        config_path: A config that differs only in what may change; None for the sweep's own.
        overrides: `key=value` texts on top of it.

    Raises:
        UserError, UserErrors: There is no sweep, or something has changed that must stay as it was.
    """
    events, _ = Ledger(folder).read()
    _refuse_missing(folder, events)
    _refuse_unwritable_name(place_of(folder))
    own, place = folder / SWEEP_FILE, place_of(folder)
    config, written = config_path or own, read_tree(own, [])
    given = read_tree(config, overrides) if config_path or overrides else written
    parent, name = parent_and_name(place)
    began = first_config(events, folder)
    before = began or load_written(own, name, as_before(written, written))
    now = load_written(config, name, [*as_before(began.model_dump() if began else written, given), *overrides])
    wrong = []
    if (stated := given.get("name")) not in {
        name,
        before.name,
        written.get("name"),
        *(tree.get("name") for tree in _configs(events)),
    }:
        wrong.append(UserError("name", STAYS, stated, "leave it out: to rename the sweep, rename its folder"))
    if any(text.partition("=")[0].strip() == "storage_path" for text in overrides) and not _is_at(now, parent):
        wrong.append(
            UserError("storage_path", STAYS, now.storage_path, "leave it out: to move the sweep, move its folder")
        )
    remedy = "start a sweep of its own"
    if began and not config_path and not overrides:  # the user has edited the sweep's own file
        remedy = f"undo the change (python -m sweeps.rebuild {quote(place)}), or {remedy}"
    wrong += [
        UserError(key, STAYS, f"{new!r} after {old!r}", remedy)
        for key, old, new in differences(_compared(before), _compared(now))
        if not may_change(key)
    ]
    most = max([_value(tree, "search.trials") or 0 for tree in _configs(events)], default=before.search.trials)
    if now.search.trials < most:
        wrong.append(UserError("search.trials", STAYS, f"{now.search.trials} after {most}", f"give {most} or more"))
    if wrong:
        raise UserErrors(wrong)
    return with_absolute_paths(now.model_copy(update={"storage_path": parent}))


def _compared(config: SweepConfig) -> dict[str, Any]:
    # The ledger hides texts that look like a credential.
    return dict(redact_all(with_absolute_paths(config).model_dump()))


def may_change(key: str) -> bool:
    """Whether a resumed sweep's config may have another value at this dotted key."""
    below = any(re.match(re.escape(entry).replace(r"\*", r".+") + r"(\.|$)", key) for entry in MAY_CHANGE)
    return below and not f"{key}.".startswith(tuple(f"{entry}." for entry in MUST_STAY))


def first_config(events: Iterable[Event], folder: Path) -> SweepConfig | None:
    """The config of the sweep's first start, by its ledger; None where the sweep has not been started.

    Raises:
        UserError: This version does not read it.
    """
    tree = next(_configs(events), None)
    return (
        None if tree is None else validated(_revealed(tree, read_tree(folder / SWEEP_FILE, [])), folder / LEDGER_FILE)
    )


def _revealed(hidden: Any, shown: Any) -> Any:
    # The ledger hides texts that look like a credential ("password: {prompt}"); `shown` may have them as they are.
    if isinstance(hidden, dict) and isinstance(shown, dict):
        return {key: _revealed(value, shown.get(key)) for key, value in hidden.items()}
    return shown if isinstance(shown, str) and redact(shown) == hidden else hidden


def validated(tree: dict[str, Any], where: Path) -> SweepConfig:
    """A config from the ledger `where`, with the defaults that the sweep had.

    Raises:
        UserError: This version does not read it.
    """
    tree, name = copy.deepcopy(tree), tree.get("name")
    for key, value in BEFORE.items():
        section, leaf = key.split(".")
        tree.setdefault(section, {}).setdefault(leaf, value)
    try:
        # The name was checked when the sweep began; the folder may have been renamed since.
        return SweepConfig.model_validate({**tree, "name": ANY_NAME}).model_copy(update={"name": name})
    except ValidationError as error:
        first = error.errors()[0]
        got = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        rule, remedy = "must hold a config that this version reads", "use the version that began the sweep"
        raise UserError(str(where), rule, got, remedy) from None


def as_before(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Overrides for a config: where it (`theirs`) lacks a key of `BEFORE`, what the sweep of the config `mine` did."""
    stated = ((key, before, _value(mine, key)) for key, before in BEFORE.items() if _value(theirs, key) is None)
    return [f"{key}={before if value is None else value}" for key, before, value in stated]


def _is_at(config: SweepConfig, parent: str) -> bool:
    return with_absolute_paths(config).storage_path.rstrip("/") == parent.rstrip("/")


def _refuse_missing(folder: Path, events: Sequence[Event]) -> None:
    place = place_of(folder)
    begun = (folder / LEDGER_FILE).is_file()
    # A sweep that has begun makes its plan anew.
    needed = (SWEEP_FILE,) if begun else (SWEEP_FILE, PLAN_FILE)
    if missing := [name for name in needed if not _has_content(folder / name)]:
        remedy = f"make it anew: python -m sweeps.rebuild {quote(place)}" if begun else "check the path"
        inside = sorted(path.parent.name for path in folder.glob(f"*/{LEDGER_FILE}"))
        if inside and not begun:
            remedy = f"name one of the sweeps in it: {', '.join(inside)}"
        got = f"{place} without {', '.join(missing)}"
        raise UserError("--resume", "must name the folder of a sweep", got, remedy)
    # Without its ledger a sweep would begin again, and its list of trials be emptied.
    if _has_content(folder / TRIALS_FILE) and not any(event["event"] == "trial_ended" for event in events):
        rule, got = "must have the ledger of its trials", f"{place} with none in {LEDGER_FILE}"
        raise UserError("--resume", rule, got, "restore that file, or start a sweep of its own")
    # The first start says what the sweep's trials have in common.
    if events and events[0]["event"] != "sweep_started":
        rule, got = "must begin with the sweep's start", f"{events[0]['event']} as the first line that is whole"
        raise UserError(str(folder / LEDGER_FILE), rule, got, "restore that file, or start a sweep of its own")


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _refuse_unwritable_name(place: str) -> None:
    # The name goes into files in UTF-8 and into lines; a folder's name can be any bytes.
    if not place.isprintable():
        shown, remedy = ascii(place), "rename the folder"
        raise UserError("--resume", "must name a folder of printable characters in UTF-8", shown, remedy)


def _configs(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    return (event["config"] for event in events if event["event"] == "sweep_started" and event.get("config"))


def _value(tree: dict[str, Any], key: str) -> Any:
    section, name = key.split(".")
    return (tree.get(section) or {}).get(name)
