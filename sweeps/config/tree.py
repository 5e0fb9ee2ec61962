"""A config before it is typed: the file's values with overrides, interpolations and short forms put in.

The only module that uses OmegaConf.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainables.config.fields import Place, dotted, is_section, kinds, section_at, types_at
from trainables.config.sections import Section
from trainables.config.yaml_text import TEXT, compose, is_quoted, values_of, written_at
from trainables.errors import UserError, UserErrors
from trainables.storage.layout import SWEEP_FILE

Tree = dict[str, Any]
HELPER = "x-"  # top-level keys that begin so are read by nobody: a place for anchors, as in Compose files
PART = r"\[([^\[\]]+)\]|([^.\[\]]+)"
KEY = re.compile(rf"(?:{PART})(?:\.?\[[^\[\]]+\]|\.[^.\[\]]+)*")
NULLS = ("", "~", "null", "Null", "NULL")


@dataclass
class Written:
    """What the user wrote for a value: YAML reads `no` as false, and an error should show `no`."""

    parts: list[tuple[Place, yaml.Node]] = field(default_factory=list)

    def at(self, place: Place) -> str | None:
        """The text of a plain value, as in the file or the last override of it; None for lists and mappings."""
        for prefix, node in reversed(self.parts):
            if len(prefix) > len(place) and prefix[: len(place)] == place:
                return None
            if place[: len(prefix)] == prefix:
                return written_at(node, place[len(prefix) :])
        return None


def read(path: str | Path, overrides: list[str], root: type[Section]) -> tuple[Tree, Written]:
    """Reads a YAML file as plain values, with overrides applied and interpolations resolved.

    Args:
        path: The file.
        overrides: `key=value` texts.
        root: The config's type: an override of a text is taken as it is, others are YAML.

    Raises:
        UserError, UserErrors: The file can't be read, or an override or interpolation can't be followed.
    """
    node = compose(_text_of(path), str(path))
    tree, written = values_of(node, str(path)), Written([((), node)])
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise UserError(str(path), "the config must be a mapping", type(tree).__name__, "start from conf/demo.yaml")
    for item in overrides:
        _override(tree, item, root, written)
    tree = _resolved(tree)
    tree = {key: value for key, value in tree.items() if not key.startswith(HELPER)}
    return _filled(tree, root, (), written), written


def write(tree: Tree) -> str:
    """Returns a tree as YAML that `read` reads as the same values."""
    return OmegaConf.to_yaml(OmegaConf.create(map_leaves(tree, lambda _, leaf: _escaped(leaf))), sort_keys=False)


def map_leaves(value: Any, change: Callable[[Place, Any], Any], place: Place = ()) -> Any:
    """Returns a tree with each of its leaves changed."""
    if isinstance(value, dict):
        return {key: map_leaves(inner, change, (*place, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [map_leaves(inner, change, (*place, number)) for number, inner in enumerate(value)]
    return change(place, value)


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yields each leaf of a tree with its place."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inside is None:
        yield place, value
        return
    for key, inner in inside:
        yield from leaves(inner, (*place, key))


def _text_of(path: str | Path) -> str:
    try:
        content = Path(path).read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        got = f"the byte {content[error.start]:#04x} in line {line}"
        raise UserError(str(path), "the config must be UTF-8", got, "save it as UTF-8") from None
    except IsADirectoryError:
        sweep = (Path(path) / SWEEP_FILE).is_file()
        remedy = f"did you mean --resume {path}?" if sweep else "give the file in it"
        raise UserError(str(path), "the config must be a file", "a folder", remedy) from None
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or error
        raise UserError(str(path), "the config must be a readable file", found, "check the path") from None


def _override(tree: Tree, item: str, root: type[Section], written: Written) -> None:
    key, equals, text = item.partition("=")
    if not equals or not KEY.fullmatch(key.strip()):
        raise UserError("arguments", "an override must be key=value", item, "write for instance search.trials=8")
    if mark := re.match(r"[+~]+", key.strip()):  # Hydra's, for keys that are added or deleted
        raise UserError("arguments", "an override must begin with a key", item, f"leave out the {mark[0]}")
    place: Place = tuple(a or b for a, b in re.findall(PART, key.strip()))
    value, node = _override_value(place, text, root)
    written.parts.append((place, node))
    here: Any = tree
    for depth, part in enumerate(place[:-1]):
        here = _entered(here, part, place, depth, root)
    _put(here, place, value, section_at(root, place))


def _override_value(place: Place, text: str, root: type[Section]) -> tuple[Any, yaml.Node]:
    """The value that an override means, and its node: words of a text field are no YAML (`#`, `: `, `007`, `no`)."""
    allowed, key, stripped = kinds(types_at(root, place)), dotted(place), text.strip()
    if str not in allowed:
        return _yaml_value(stripped, key)
    opened = {"{": dict in allowed, "[": list in allowed or place[0] == "space"}.get(stripped[:1], False)
    try:
        value, node = _yaml_value(stripped, key)
    except (UserError, UserErrors):
        if opened:
            raise
        return text, yaml.ScalarNode(TEXT, text)
    means_yaml = (
        (opened and isinstance(value, dict | list))
        or (isinstance(value, bool | int | float) and allowed & {bool, int, float})
        or is_quoted(node)
        or stripped in NULLS
    )
    return (value, node) if means_yaml else (text, yaml.ScalarNode(TEXT, text))


def _yaml_value(text: str, key: str) -> tuple[Any, yaml.Node]:
    try:
        node = compose(text, key)
        return values_of(node, key), node
    except UserError as error:
        shown = text if len(text) <= 60 else f"{text[:59]}…"
        raise UserError(key, error.rule, f"{shown!r}: {error.got}", f"quote the value: {key}='\"…\"'") from None


def _entered(here: Any, part: int | str, place: Place, depth: int, root: type[Section]) -> Any:
    """Goes one part of an override's key down; what is no mapping or list there becomes a mapping."""
    key: Any = _number_in(here, part, place) if isinstance(here, list) else part
    inner = here[key] if isinstance(here, list) else here.get(key)
    if not isinstance(inner, dict | list):
        spelled = _spelled_out(inner, section_at(root, place[: depth + 1]))
        inner = here[key] = spelled if isinstance(spelled, dict) else {}
    return inner


def _put(here: Any, place: Place, value: Any, section: type[Section] | None) -> None:
    key: Any = _number_in(here, place[-1], place) if isinstance(here, list) else place[-1]
    before = here[key] if isinstance(here, list) else here.get(key)
    if isinstance(before, dict) or isinstance(value, dict):
        before, value = _spelled_out(before, section), _spelled_out(value, section)
    if before and value == {}:
        raise UserError(dotted(place), "an empty mapping changes nothing", "{}", "name the keys that change")
    here[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value


def _spelled_out(value: Any, section: type[Section] | None) -> Any:
    # `objective: TEXT` becomes `objective: {statement: TEXT}`, so that overrides of other keys add to it.
    return {section.short_form: value} if section and section.short_form and isinstance(value, str) else value


def _number_in(values: list[Any], part: int | str, place: Place) -> int:
    if str(part).isdecimal() and int(part) < len(values):
        return int(part)
    rule = f"must name one of the {len(values)} entries of a list, from 0"
    raise UserError(dotted(place), rule, part, "or give the whole list: key=[a, b]")


def _merged(before: Tree, new: Tree) -> Tree:
    both = {
        key: _merged(before[key], new[key])
        for key in new
        if isinstance(before.get(key), dict) and isinstance(new[key], dict)
    }
    return {**before, **new, **both}


def _filled(tree: Tree, root: type[Section], place: Place, written: Written) -> Tree:
    """Puts an empty mapping in the place of each section of which all keys are commented out."""
    filled = dict(tree)
    for key, value in tree.items():
        inner: Place = (*place, key)
        if isinstance(value, dict):
            filled[key] = _filled(value, root, inner, written)
        elif value is None and (section := section_at(root, inner)) and all(map(is_section, types_at(root, inner))):
            # `wandb: null` is more than an empty section; `wandb:` is not.
            filled[key] = None if section.off and written.at(inner) else {}
    return filled


def _resolved(tree: Tree) -> Tree:
    if not any(isinstance(leaf, str) and "${" in leaf for _, leaf in leaves(tree)):
        return tree
    try:
        return OmegaConf.to_container(OmegaConf.create(tree), resolve=True)  # type: ignore[return-value]
    except (OmegaConfBaseException, RecursionError, ValueError, TypeError, KeyError) as error:
        raise _interpolation_error(tree, error) from None


def _interpolation_error(tree: Tree, error: Exception) -> UserError:
    where = getattr(error, "full_key", None) or "config"
    guilty = next((leaf for place, leaf in leaves(tree) if dotted(place) == where), None)
    if guilty is None:  # an error of the grammar names no key
        where, guilty = next(
            ((dotted(place), leaf) for place, leaf in leaves(tree) if not _is_grammatical(leaf)), (where, guilty)
        )
    message = " ".join(str(getattr(error, "msg", None) or error).split())
    if found := re.search(r"[Ee]nvironment variable '([^']+)' not found", message):
        name = found[1]
        remedy = f"export {name}=…, or write ${{oc.env:{name},DEFAULT}}"
        return UserError(where, "names an environment variable that is not set", name, remedy)
    if found := re.search(r"Interpolation key '([^']*)' not found", message):
        variable = f"for an environment variable write ${{oc.env:{found[1]}}}, " if found[1].isidentifier() else ""
        rule = f"${{{found[1]}}} must name another key of the config"
        return UserError(
            where, rule, guilty or found[1], f"{variable}for these characters themselves \\${{{found[1]}}}"
        )
    rule = "${…} must be a reference that can be followed"
    return UserError(where, rule, guilty or message, "for these characters themselves write \\${")


def _is_grammatical(leaf: Any) -> bool:
    try:
        OmegaConf.create({"leaf": leaf})
    except OmegaConfBaseException:
        return False
    return True


def _escaped(leaf: Any) -> Any:
    # Else a text that holds `${` would be an interpolation when it is read again.
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", leaf) if isinstance(leaf, str) else leaf
