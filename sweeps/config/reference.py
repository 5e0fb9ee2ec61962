"""`python -m sweeps.config.reference`: prints the reference of every config key, made from the typed config."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from sweeps.config.space import Range
from sweeps.config.sweep_config import SweepConfig

HEAD = """# Configuration

Every key of a sweep's config. Made from the typed config by `python -m sweeps.config.reference`.

Unknown keys are errors. `key=value` on the command line replaces any of them (`search.trials=8`). The value is YAML;
of a key that holds a text it is the text itself (`objective=Beat run #7`). `${oc.env:NAME}` stands for an environment
variable, `~` for the home in a path. Top-level keys that begin with `x-` are left out: a place for anchors.
"""


def reference() -> str:
    """Returns the page as Markdown."""
    return HEAD + "".join(_section("", SweepConfig))


def _section(prefix: str, section: type[BaseModel]) -> Iterator[str]:
    yield f"\n## {prefix.rstrip('.') or 'Top level'}\n\n{_first_line(section)}\n\n| key | type | default | meaning |\n"
    yield "| --- | --- | --- | --- |\n"
    inner: list[tuple[str, type[BaseModel]]] = []
    meanings = _attributes(section)
    for name, field in section.model_fields.items():
        found = _model_in(field.annotation)
        place = f"{prefix}{name}{'.NAME' if 'dict[' in str(field.annotation) else ''}"
        if found and found is not Range:
            inner.append((f"{place}.", found))
        meaning = meanings.get(name) or (f"See [{place}](#{_anchor(place)})." if found else "")
        cells = (f"`{prefix}{name}`", _type(field.annotation), _default(field.get_default(call_default_factory=True)))
        yield f"| {' | '.join(cells)} | {meaning} |\n"
    for place, model in inner:
        yield from _section(place, model)


def _anchor(heading: str) -> str:
    # As GitHub makes the anchor of a heading.
    return heading.lower().replace(".", "")


def _attributes(section: type[BaseModel]) -> dict[str, str]:
    # From the docstring's `Attributes:`; a name may share its text with others.
    text = inspect.cleandoc(section.__doc__ or "").partition("Attributes:")[2]
    found = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8,}.*)*)", text, flags=re.MULTILINE)
    return {
        name: re.sub(r"\s+", " ", meaning).replace("|", "\\|") for names, meaning in found for name in names.split(", ")
    }


def _first_line(section: type[BaseModel]) -> str:
    return inspect.cleandoc(section.__doc__ or "").partition("\n\nAttributes:")[0].replace("\n", " ")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in getattr(annotation, "__args__", ()) if (model := _model_in(part))), None)


def _type(annotation: Any) -> str:
    text = (
        annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
    )
    text = re.sub(r"typing\.|(?:trainables|sweeps)\.config\.[a-z_]+\.|<class '|'>", "", text)
    text = re.sub(r"Annotated\[(\w+), FieldInfo\(.*\)\]", r"\1", text)
    text = re.sub(r"Union\[(.*)\]", lambda match: match[1].replace("], ", "] | "), text)
    text = re.sub(r"Literal\[([^\]]*)\]", lambda match: match[1].replace(", ", " or "), text)
    if re.fullmatch(r"\w+(Config|Names|Actions)", text):
        return "section"
    return text.replace("Range", "{low, high, log}").replace("|", "or").replace("None", "null")


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    return "see below" if isinstance(value, BaseModel) else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    print(reference(), end="")
