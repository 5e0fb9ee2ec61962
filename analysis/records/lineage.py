"""Lineage of sweeps: a config names the parent, and the manifest keeps its id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.records.json_files import read_json
from analysis.records.locate import top_of
from trainables.errors import UserError
from trainables.storage.layout import MANIFEST_FILE
from trainables.storage.object_store import is_url
from trainables.storage.working_copy import parent_and_name, place_of

# `NAME@ID`: a sweep in any place.
LINK = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)@(?P<id>[0-9a-f]{12})")

# Keys that differ between any two sweeps and say nothing of what was tried.
MOVED = ("name", "parent", "storage_path", "search.warm_start", "search.seed_points", "space.beyond_recommended")

SHOWN_CHANGES = 4
NAME_LENGTH = 80  # a config takes 100 characters


@dataclass(frozen=True)
class Kin:
    """A sweep in a family tree."""

    folder: Path
    name: str
    id: str | None  # its own id; None for sweeps of versions that gave none
    # Its parent's `name`, `id` and `folder`, each None where unknown; None for a sweep without a parent
    parent: Mapping[str, Any] | None
    config: Mapping[str, Any]  # its config, as plain YAML reads it
    said: str = ""  # what the tree says of it, such as its winner's loss

    def is_child_of(self, other: Kin) -> bool:
        """By id where both sides know one, else by folder."""
        if self.parent is None or other is self:
            return False
        if self.parent.get("id") and other.id:
            return bool(self.parent["id"] == other.id)
        folder = self.parent.get("folder")
        return folder is not None and full_place(folder) == full_place(place_of(other.folder))


def named_parent(text: str) -> dict[str, Any]:
    """Resolves a config's `parent`, a sweep's folder, URL or `NAME@ID`, to its `name`, `id` and `folder`."""
    if link := LINK.fullmatch(text):
        return {**link.groupdict(), "folder": None}
    place = full_place(text)
    return {"name": parent_and_name(place)[1], "id": sweep_id(top_of(place)), "folder": place}


def link_to(folder: Path, name: str) -> str:
    """The value of `parent` that names this sweep: `NAME@ID`, or its folder where it has no id."""
    own = sweep_id(folder)
    return f"{plain_name(name)}@{own}" if own else full_place(place_of(folder))


def plain_name(name: str) -> str:
    """A sweep's name by the rules for new sweeps' names, with room for a suffix: folders can be renamed to anything."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-")[:NAME_LENGTH] or "sweep"


def full_place(place: str) -> str:
    """A folder's absolute path, or a URL."""
    return place.rstrip("/") if is_url(place) else str(Path(place).expanduser().resolve())


def sweep_id(folder: Path) -> str | None:
    """The id in a sweep's manifest; None where there is none.

    Raises:
        UserError: The manifest is not JSON.
    """
    found = (read_json(folder / MANIFEST_FILE) or {}).get("sweep_id")
    if found is not None and not isinstance(found, str):
        raise UserError(str(folder / MANIFEST_FILE), "sweep_id must be a text", found, "restore the file")
    return found


def parent_of(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A sweep's parent: the manifest's, else the config's, else the first warm start."""
    if manifest.get("parent"):
        return dict(manifest["parent"])
    if config.get("parent"):
        return named_parent(str(config["parent"]))
    # Before configs had a `parent`, a warm start was the only link.
    search = config.get("search")
    warm = (search.get("warm_start") if isinstance(search, dict) else None) or []
    return named_parent(str(warm[0])) if warm else None


def tree(sweeps: Sequence[Kin]) -> Iterator[str]:
    """Renders the sweeps as a tree, a line each: below its parent, with its changes."""
    above = {id(one): next((other for other in sweeps if one.is_child_of(other)), None) for one in sweeps}

    def branch(one: Kin, depth: int) -> Iterator[str]:
        parent = above[id(one)]
        changed = f"; changed: {_changes_in_words(parent, one)}" if parent else ""
        elsewhere = f" (from {_words(one.parent)})" if one.parent and not parent else ""
        yield f"{'   ' * (depth - 1)}{'└─ ' if depth else ''}{one.name}: {one.said}{elsewhere}{changed}"
        for child in (child for child in sweeps if above[id(child)] is one):
            yield from branch(child, depth + 1)

    for one in sweeps:
        if above[id(one)] is None:
            yield from branch(one, 0)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Config values that differ, by dotted key: (parent's, child's), without names and places."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return {
        key: (old.get(key), new.get(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and not any(key == left or key.startswith(f"{left}.") for left in MOVED)
    }


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _as_number(value)


def _as_number(value: Any) -> Any:
    # Plain YAML reads `1e-4` as a text.
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _changes_in_words(parent: Kin, child: Kin) -> str:
    found = [f"{key} {old} → {new}" for key, (old, new) in changes(parent.config, child.config).items()]
    if not found:
        return "nothing"
    more = f", and {len(found) - SHOWN_CHANGES} more" if len(found) > SHOWN_CHANGES else ""
    return ", ".join(found[:SHOWN_CHANGES]) + more


def _words(parent: Mapping[str, Any]) -> str:
    return parent["folder"] or "@".join(filter(None, (parent["name"], parent["id"])))
