"""Error lines of a config, from pydantic's error details."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic_core import ErrorDetails, PydanticCustomError

from sweeps.config import habits
from trainables.config.fields import Place, dotted, section_at
from trainables.config.hyperparameters import CHOSEN
from trainables.config.sections import Section
from trainables.errors import UserError

DOCS = "see docs/configuration.md"

# What pydantic wants, by the type of its error.
_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a section with keys of its own",
    "model_type": "a section with keys of its own",
}
_OFF = ("off", "false", "no", "none", "0")
_FIRST = ("rule", "finite_number")  # which of several errors of one place says most


def rule(text: str, got: object, remedy: str) -> PydanticCustomError:
    """Makes a validator's error with the parts of an error line."""
    return PydanticCustomError("rule", "{rule}", {"rule": text, "got": str(got), "remedy": remedy})


def suggestion(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Returns a remedy for an unknown name: the nearest known one, or all of them."""
    spelled = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.strip().lower(), spelled, n=1, cutoff=0.6)
    return f"did you mean {spelled[near[0]]}?" if near else f"known are {', '.join(sorted(known))}"


def to_user_errors(
    details: list[ErrorDetails], root: type[Section], written: Callable[[Place], str | None]
) -> list[UserError]:
    """Converts pydantic's error details, one line for each place.

    Args:
        details: All that pydantic found.
        root: The config's type.
        written: What the user wrote for the plain value at a place, if it is one.
    """
    by_place: dict[Place, list[ErrorDetails]] = {}
    for detail in details:
        by_place.setdefault(_place(detail["loc"]), []).append(detail)
    # Where a union failed, pydantic reports every alternative: the one that goes deepest is what was meant.
    deeper = {place for place in by_place if any(len(o) > len(place) and o[: len(place)] == place for o in by_place)}
    return [_line(place, found, root, written(place)) for place, found in by_place.items() if place not in deeper]


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _line(place: Place, details: list[ErrorDetails], root: type[Section], written: str | None) -> UserError:
    where = dotted(place) or "config"
    of_kind = {one["type"]: one for one in reversed(details)}
    # Of `auto` or a number, 0 is a number that is too low, and no misspelled auto.
    other = next((kind for kind in of_kind if kind not in _WANTED and kind != "literal_error"), details[0]["type"])
    detail = next((of_kind[first] for first in _FIRST if first in of_kind), of_kind[other])
    value, context, kind = detail["input"], detail.get("ctx", {}), detail["type"]
    if kind == "rule":
        return UserError(where, context["rule"], context["got"], context["remedy"])
    if kind == "extra_forbidden":
        return _unknown_key(where, str(place[-1]), section_at(root, place[:-1]), root)
    if kind == "missing":
        return UserError(where, "is required", "nothing", "add it to the config")
    if kind == "finite_number":
        return UserError(where, "must be a finite number", written or value, "give a number")
    if kind == "string_pattern_mismatch":
        return UserError(
            where, "must be letters, digits, `.`, `_` and `-`, a letter or digit first", value, "rename it"
        )
    if kind == "too_short":
        return UserError(where, f"must have {context['min_length']} or more", _shown(value, written), "add one")
    if not all(one["type"] in _WANTED or one["type"] == "literal_error" for one in details):
        message = lower_first(detail["msg"].removeprefix("Value error, "))
        return UserError(where, message, _shown(value, written), DOCS)
    must = f"must be {' or '.join(_all_wanted(place, details))}"
    types = {one["type"] for one in details}
    options = [option for one in details if one["type"] == "literal_error" for option in _options(one)]
    section = section_at(root, place)
    keys = list(section.model_fields) if section and "model_type" in types and place[0] != "space" else []
    if section and section.off and value is True:
        return UserError(
            where, must, written or value, "leave it out: it is on where it is set up, or write mode: online"
        )
    if section and section.short_form and section.off is None and isinstance(value, bool | int | float):
        return UserError(where, f"must be a text, or {must[8:]}", written or value, f'quote it: "{written or value}"')
    got = value if options and isinstance(value, str) and value == value.strip() else _shown(value, written)
    return UserError(where, must, got, _remedy(place, value, written, types, options, keys))


def _unknown_key(where: str, key: str, section: type[Section] | None, root: type[Section]) -> UserError:
    known = [] if section is None else list(section.model_fields)
    same = key.replace("-", "_")
    glued, colon, value = key.partition(":")
    if not key.isprintable():  # such as a space that does not break
        return UserError(ascii(where)[1:-1], "unknown key", ascii(key), suggestion(_printable(key), known))
    if colon and glued in known:
        return UserError(where, "unknown key", key, f"put a space behind the colon: {glued}: {value}")
    if key in habits.KEYS and same not in known:
        return UserError(where, habits.RULES.get(key, "unknown key"), key, habits.KEYS[key])
    if same not in known and len(places := [place for place in _places(root) if place[-1] == key]) == 1:
        level = " at the top level" * (len(places[0]) == 1)
        return UserError(where, "unknown key", key, f"did you mean {dotted(places[0])}{level}?")
    return UserError(where, "unknown key", key, f"did you mean {same}?" if same in known else suggestion(key, known))


def _printable(text: str) -> str:
    return "".join(one for one in text if one.isprintable())


def _places(root: type[Section], place: Place = ()) -> Iterator[Place]:
    """Yields the places of all keys of sections within sections."""
    for name in (section_at(root, place) or root).model_fields:
        yield (*place, name)
        if section_at(root, (*place, name)):
            yield from _places(root, (*place, name))


def _all_wanted(place: Place, details: list[ErrorDetails]) -> list[str]:
    if place[0] == "space" and len(place) == 2 and place[1] != "beyond_recommended":
        return ["a name", "{choices: [a, b]}"] if place[1] in CHOSEN else ["a number", "{low, high, log}"]
    return list(dict.fromkeys(_wanted(one) for one in details))


def _wanted(detail: ErrorDetails) -> str:
    return str(detail["ctx"]["expected"]) if detail["type"] == "literal_error" else _WANTED[detail["type"]]


def _remedy(place: Place, value: Any, written: str | None, types: set[str], options: list[str], keys: list[str]) -> str:
    """What the user most likely meant, and how it is written.

    Args:
        place: Where the value stands.
        value: The value.
        written: What was written for it, where it is one plain value.
        types: Pydantic's types of what is wrong, one for each alternative.
        options: The words that may stand there.
        keys: The keys of the section that must stand there.
    """
    reads = "" if written in (None, str(value)) else f"YAML reads {written} as {str(value).lower()}: "
    numbers = types & {"int_type", "int_from_float", "float_type"}
    if isinstance(value, list | dict) and (meant := _searched(place, value)):
        return meant
    if value is None:
        return "give it a value, or leave the key out"
    if "dict_type" in types:
        return "give each a name, as NAME: VALUE"
    if "list_type" in types and place[-1] == "checkpoints_at":
        return "write fractions of the epoch that end with 1.0: [0.5, 1.0]"
    if "list_type" in types and str(value).lower() in _OFF:
        return "write [] for none"
    if "disabled" in options and str(value).lower() in _OFF:
        return f"{reads}write disabled"
    if isinstance(value, str) and numbers and (options == [] or _number(value) is not None):
        return _meant_number(value, whole="float_type" not in types)
    if isinstance(value, float) and numbers and value.is_integer():
        return f"write {int(value)}"
    if "list_type" in types and isinstance(value, str) and value.startswith("{"):
        return f"write [{value}]"
    if options and not isinstance(value, list | dict):
        near = habits.VALUES.get(str(value).lower()) or suggestion(str(written or value), options)
        other = ", or names as a list: [a, b]" if "list_type" in types else ", or a number" if numbers else ""
        return f"{reads}{near}{other}"
    if "list_type" in types and isinstance(value, dict) and all(key.isdecimal() for key in value):
        return f"give the whole list: {dotted(place)}=[{', '.join(map(str, value.values()))}]"
    if "list_type" in types and not isinstance(value, dict):
        return f"write [{written if written is not None else value}]"
    if keys:
        return f"its keys are {', '.join(keys)}"
    if "string_type" in types:
        return f'{reads}quote it: "{written}"' if written else "give one text"
    return {"bool_type": "write true or false"}.get(next(iter(types)), "give a number" if numbers else DOCS)


def _searched(place: Place, value: list[Any] | dict[str, Any]) -> str | None:
    """The remedy for a list or mapping where one value must stand, if the key can be searched."""
    if place[0] == "space" and len(place) == 2 and isinstance(value, list):
        if place[1] in CHOSEN:
            return f"write {{choices: [{', '.join(map(str, value))}]}}"
        return f"a list is not searched: {habits.range_over(value)}"
    if name := habits.searched_name(place):
        texts = value if isinstance(value, list) and all(isinstance(one, str) for one in value) else ["a", "b"]
        form = f"{{choices: [{', '.join(texts)}]}}" if name in CHOSEN else "{low: …, high: …}"
        return f"give one value here; to search it write space.{name}: {form}"
    return (
        "give one value; only keys of space are searched"
        if isinstance(value, list) and place[0] == "training"
        else None
    )


def _meant_number(text: str, *, whole: bool) -> str:
    bare = text.strip()
    if not bare.isascii():
        return "give a number in the digits 0 to 9"
    if bare.lower() in ("none", "nil", "all", "unlimited"):
        return "give a number; where none is needed, leave the key out"
    if found := re.fullmatch(r"([-+]?)0+(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)", bare):
        return f"leave out the leading zero: {found[1]}{found[2]}"
    if re.fullmatch(r"\d+(?:\.\d*)?\s*%", bare):
        return "give a number" if whole else f"write {float(bare.rstrip('% ')) / 100:g}"
    if re.fullmatch(r"\d{1,3}(?:[,' ]\d{3})+", bare):
        return f"write {re.sub(r'[^0-9]', '', bare)}"
    if re.fullmatch(r"\d+(?:\.\d+)?[kK]", bare):
        return f"write {float(bare[:-1]) * 1000:g}"
    return f"leave out the quotes: {bare}" if _number(bare) is not None else "give a number"


def _number(text: str) -> float | None:
    try:
        return float(text) if math.isfinite(float(text)) else None
    except ValueError:
        return None


def _place(location: tuple[int | str, ...]) -> Place:
    # Pydantic adds tags for the alternatives of a union, and for a mapping's key.
    tags = {"Range", "Choices", "float", "int", "str", "[key]"}
    prefixes = ("literal[", "list[", "dict[", "function-", "constrained-")
    return tuple(part for part in location if part not in tags and not str(part).startswith(prefixes))


def _options(detail: ErrorDetails) -> list[str]:
    return [part.strip(" '") for part in detail["ctx"]["expected"].replace(" or ", ",").split(",")]


def _shown(value: object, written: str | None) -> str:
    """A value as the user wrote it where that is known."""
    text = repr(value) if written is None or isinstance(value, str) else written or "nothing"
    return text if len(text) <= 80 else text[:77] + "…"
