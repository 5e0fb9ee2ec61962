"""What a config takes from its surroundings: `~` in paths, and W&B's variables where the config is silent."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sweeps.config.tree import Tree, map_leaves
from trainables.config.fields import Place, dotted
from trainables.errors import UserError
from trainables.storage.object_store import is_url

# Of each part of a place; "*" stands for any.
PATHS = (
    ("storage_path",),
    ("parent",),
    ("model", "name"),
    ("data", "train"),
    ("data", "chat_template"),
    ("heldout", "areas", "*"),
    ("heldout", "areas", "*", "path"),
    ("search", "warm_start", "*"),
)
# Texts, and all that lies below them, in which a `$` is a `$`.
PROSE = (
    ("objective",),
    ("space", "beyond_recommended"),
    ("data", "template"),
    ("heldout", "areas", "*", "scorers"),
)
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


def expanded(tree: Tree) -> tuple[Tree, list[UserError]]:
    """Puts the user's home in the place of a path's leading `~`.

    Returns:
        The tree, and an error for each `$NAME` that a shell would have replaced: nobody does it here. A path that lies
        there under just that name is meant as it is.
    """
    mistakes: list[UserError] = []

    def change(place: Place, leaf: Any) -> Any:
        if not isinstance(leaf, str) or any(_is_one_of(place[:depth], PROSE) for depth in range(1, len(place) + 1)):
            return leaf
        path = _expanded_home(leaf) if is_path(place) else leaf
        if is_path(place) and not _exists(path) and (fault := _misspelled(path)):
            mistakes.append(UserError(dotted(place), *fault))
        elif (found := VARIABLE.search(path)) and not _exists(path):
            name = found[1] or found[2]
            remedy = f"write ${{oc.env:{name}}}, or the value itself"
            mistakes.append(UserError(dotted(place), f"${name} is not replaced in a config", leaf, remedy))
        elif is_path(place) and re.match(r"~[\w.-]*(?:/|$)", path) and not _exists(path):
            mistakes.append(UserError(dotted(place), "~ must stand for a known home", leaf, "write the whole path"))
        return path

    return map_leaves(tree, change), mistakes


def from_environment(tree: Tree) -> Tree:
    """Fills in what W&B's variables say where the config says nothing: the project, the tags, whether it is off.

    `WANDB_ENTITY` and `WANDB_MODE` are read by W&B itself. A config that names a key has the last word.
    """
    section = tree.get("wandb", {})
    if isinstance(section, str):
        section = {"mode": section}
    if not isinstance(section, dict):
        return tree
    found = wandb_variables()
    silent = {key: value for key, value in section.items() if not (key == "mode" and value == "auto")}
    return {**tree, "wandb": {**found, **silent}}


def wandb_variables() -> dict[str, Any]:
    """Keys of the config's W&B section that the environment gives."""
    found: dict[str, Any] = {}
    if project := os.environ.get("WANDB_PROJECT", "").strip():
        found["project"] = project
    if tags := [tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag.strip()]:
        found["tags"] = tags
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in ("1", "true", "yes", "on", "t", "y"):
        found["mode"] = "disabled"
    return found


def from_variable(error: UserError, tree: Tree) -> UserError:
    """The error, which names the variable where its value came from one.

    Args:
        error: A mistake of the config.
        tree: The config as the user wrote it.
    """
    variable = {"wandb.project": "WANDB_PROJECT", "wandb.tags": "WANDB_TAGS"}.get(error.where)
    section = tree.get("wandb", {})
    if variable is None or (isinstance(section, dict) and error.where.partition(".")[2] in section):
        return error
    return UserError(variable, error.rule, error.got, "correct the environment variable, or set the config's key")


def is_path(place: Place) -> bool:
    """Whether the text at a place of the config names a file or folder, where it is no URL or id."""
    return _is_one_of(place, PATHS)


def _expanded_home(path: str) -> str:
    if is_url(path) or not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:  # no such user, or no home
        return path


def _misspelled(path: str) -> tuple[str, str, str] | None:
    """Rule, finding and remedy for a text that can be meant as a path, but not as the one that it is."""
    if path != path.strip():  # of a quoted override, or of a variable from a file with CRLF
        return "a path must not begin or end with white space", repr(path), f"write {path.strip()}"
    if found := re.search(r"\$\([^)]*\)|`[^`]*`|%[A-Z_]+%|\{\{.*?\}\}", path):
        return f"{found[0]} is not replaced in a config", path, "write what it stands for"
    if re.match(r"[A-Za-z]:\\", path):
        return "a path of Windows names nothing here", path, "write it as this machine has it, such as /mnt/c/…"
    if found := re.match(r"([A-Za-z][\w+.-]+):/(?!/)", path):
        return "a URL needs two slashes", path, f"write {found[1]}://…, or ./{path} for a folder of that name"
    return None


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _is_one_of(place: Place, patterns: tuple[tuple[str, ...], ...]) -> bool:
    return any(
        len(place) == len(pattern) and all(want in ("*", str(part)) for want, part in zip(pattern, place, strict=True))
        for pattern in patterns
    )
