"""What the typed config allows at a place: for overrides, and for the wording of errors."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from trainables.config.sections import Section

Place = tuple[int | str, ...]


def dotted(place: Place) -> str:
    """A place as the command line and error lines write it."""
    return ".".join(map(str, place))


def types_at(root: type[Section], place: Place) -> list[Any]:
    """Returns the types that a value at this place may have, one by one; none where the config has no such place."""
    found: list[Any] = [root]
    for part in place:
        found = [inner for one in found for inner in _inside(one, part)]
    return found


def kinds(types: list[Any]) -> set[type | None]:
    """Which values the types allow: bool, int, float, str, list, dict, None; every one of them for `Any`."""
    found: set[type | None] = set()
    for one in types:
        origin = get_origin(one)
        if one is Any:
            return {bool, int, float, str, list, dict, None}
        if is_section(one):
            found |= {dict, *([str] if one.short_form else []), *([bool, None] if one.off is not None else [])}
        elif origin is Literal:
            found |= {type(choice) for choice in get_args(one)}
        else:
            found.add(None if one is type(None) else origin or one)
    return found


def is_section(one: Any) -> bool:
    return isinstance(one, type) and issubclass(one, Section)


def section_at(root: type[Section], place: Place) -> type[Section] | None:
    """The section at a place, if there is one."""
    return next((one for one in types_at(root, place) if is_section(one)), None)


def _inside(one: Any, part: int | str) -> list[Any]:
    if is_section(one):
        if field := one.model_fields.get(str(part)):
            return _alternatives(field.annotation)
        extra = one.model_config.get("extra") == "allow"
        return _alternatives(get_args(get_type_hints(one)["__pydantic_extra__"])[1]) if extra else []
    if get_origin(one) is dict:
        return _alternatives(get_args(one)[1])
    if get_origin(one) is list and str(part).isdecimal():
        return _alternatives(get_args(one)[0])
    return [Any] if one is Any else []


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [inner for one in get_args(annotation) for inner in _alternatives(one)]
    return [annotation]
