"""Error lines of a config, from pydantic's error details."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails, PydanticCustomError

from trainables.errors import UserError


def rule(text: str, got: object, remedy: str) -> PydanticCustomError:
    """Makes a validator's error with the parts of an error line."""
    return PydanticCustomError("rule", "{rule}", {"rule": text, "got": str(got), "remedy": remedy})


def suggestion(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Returns a remedy for an unknown name: the nearest known one, or all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"


def one_error_a_place(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Keeps one error for each place, the most specific one."""
    # Where a union failed, pydantic reports every alternative.
    kept: dict[tuple, ErrorDetails] = {}
    for detail in details:
        place = _place(detail["loc"])
        if place not in kept or detail["type"] == "rule":
            kept[place] = detail
    deeper = {place for place in kept if any(len(o) > len(place) and o[: len(place)] == place for o in kept)}
    return [detail for place, detail in kept.items() if place not in deeper]


def to_user_error(detail: ErrorDetails, root: type[BaseModel]) -> UserError:
    """Converts one of pydantic's error details; `root` is the config's type."""
    place = _place(detail["loc"])
    where, context = ".".join(map(str, place)) or "config", detail.get("ctx", {})
    if detail["type"] == "rule":
        return UserError(where, context["rule"], context["got"], context["remedy"])
    if detail["type"] == "extra_forbidden":
        siblings = _known_keys(root, place[:-1])
        return UserError(where, "unknown key", place[-1], suggestion(str(place[-1]), siblings))
    if detail["type"] == "missing":
        return UserError(where, "is required", "nothing", "add it to the config")
    if detail["type"] == "literal_error":
        got = detail["input"]
        return UserError(where, f"must be {context['expected']}", got, suggestion(str(got), _options(context)))
    if detail["type"] == "model_type" and context.get("class_name") == "Range":
        return UserError(where, "must be a number or {low, high, log}", _short(detail["input"]), "give one of the two")
    message = lower_first(detail["msg"].removeprefix("Value error, "))
    return UserError(where, message, _short(detail["input"]), "see docs/configuration.md")


def _place(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    # Pydantic adds tags for the alternatives of a union.
    tags = {"Range", "Choices", "float", "int", "str"}
    prefixes = ("literal[", "list[", "dict[", "function-")
    return tuple(part for part in location if part not in tags and not str(part).startswith(prefixes))


def _known_keys(root: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] | None = root
    for part in place:
        if section is None:
            return []
        field = section.model_fields.get(str(part))
        section = _section_in(field.annotation) if field else section if part == place[-1] else None
    return list(section.model_fields) if section else []


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_section_in(part) for part in getattr(annotation, "__args__", ())]
    return next((section for section in found if section), None)


def _options(context: dict[str, Any]) -> list[str]:
    return [part.strip(" '") for part in context["expected"].replace(" or ", ",").split(",")]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
