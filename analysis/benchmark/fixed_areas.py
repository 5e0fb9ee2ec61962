"""The areas of a benchmark: read once, audited, and named by a hash of what is asked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analysis.records.bounded_yaml import load_bounded
from trainables.config.data_sections import AreaConfig, FieldNames, HeldoutConfig
from trainables.data.audit.audit import AuditSource, audit_areas, kept_samples
from trainables.data.samples import Sample
from trainables.errors import UserError, UserErrors
from trainables.storage.layout import SWEEP_FILE

FORM = 1  # of what is hashed and stored: counted up when equal areas are stored otherwise
HASH_CHARACTERS = 12
FORGETTING = "forgetting"  # in place of a file: the areas that come with the program
PACK = Path(__file__).parent / FORGETTING
WHERE = "--areas"

_NAMED = re.compile(r"(?P<name>[^\W_][\w .-]*)=(?P<file>.+)", re.S)
_ENDINGS = re.compile(r"(\.jsonl|\.json|\.csv|\.parquet)(\.gz)?$")


@dataclass(frozen=True)
class FixedAreas:
    """A version of a benchmark.

    Attributes:
        name: The user's name of it.
        heldout: Settings of the areas: weight, scorers, longest answer.
        samples: The items of each area.
    """

    name: str
    heldout: HeldoutConfig
    samples: Mapping[str, Sequence[Sample]]

    @property
    def full_name(self) -> str:
        """`NAME-HASH`: another hash is another set of items, or other settings."""
        return f"{self.name}-{hashlib.sha256(self.to_json().encode()).hexdigest()[:HASH_CHARACTERS]}"

    def to_json(self) -> str:
        """What is hashed and stored; `from_json` reads it."""
        areas = {
            name: {
                "weight": area.weight,
                "scorers": area.scorers,
                "max_new_tokens": area.max_new_tokens,
                "items": [_plain(sample) for sample in self.samples[name]],
            }
            for name, area in sorted(self.heldout.areas.items())
        }
        # In the data's own order of keys, which a template may write out, as of a tool call's arguments.
        # `default`: a table's metadata may hold dates, which JSON lacks.
        return json.dumps({"form": FORM, "areas": areas}, ensure_ascii=False, default=str)

    @classmethod
    def from_json(cls, name: str, text: str) -> FixedAreas:
        """Reads what `to_json` gave; ValueError, KeyError or TypeError where it is damaged."""
        areas = json.loads(text)["areas"]
        settings = {
            area: AreaConfig(path=area, **{key: found[key] for key in ("weight", "scorers", "max_new_tokens")})
            for area, found in areas.items()
        }
        samples = {
            area: [Sample(**item, line=line, file=area) for line, item in enumerate(found["items"], start=1)]
            for area, found in areas.items()
        }
        return cls(name, HeldoutConfig(areas=settings), samples)


def read_areas(name: str, given: Sequence[str], max_new_tokens: int | None) -> FixedAreas:
    """Reads the areas that `--areas` names.

    Args:
        name: The benchmark's.
        given: Each a data file, `AREA=FILE`, a sweep's folder or a config (for its held-out areas), or `forgetting`.
        max_new_tokens: Longest answer in all areas; None for each area's own.

    Raises:
        UserError: One of them can't be read, or two areas have the same name.
        UserErrors: Lines of the files have defects.
    """
    settings: dict[str, AreaConfig] = {}
    samples: dict[str, list[Sample]] = {}
    for text in given:
        areas, fields = _areas(text)
        if twice := sorted(settings.keys() & areas.keys()):
            raise UserError(WHERE, "must name an area once", twice[0], f"write OTHER={areas[twice[0]].path}")
        more = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
        settings |= {area: section.model_copy(update=more) for area, section in areas.items()}
        samples |= _samples(areas, fields)
    sections = {area: section.model_dump() for area, section in settings.items()}
    return FixedAreas(name, _validated({"areas": sections}, WHERE), samples)


def _samples(areas: Mapping[str, AreaConfig], fields: FieldNames) -> dict[str, list[Sample]]:
    for area, section in areas.items():
        if own := [scorer for scorer in section.scorers if isinstance(scorer, str) and ":" in scorer]:
            rule = f"area {area} must have scorers of this program: a benchmark runs no code of a config's"
            raise UserError(WHERE, rule, own[0], "leave it out")
    sources = {area: AuditSource(f"{WHERE} {area}", one.path, one.limit) for area, one in areas.items()}
    found = audit_areas(sources, fields, {})
    return {area: kept_samples(source, fields, found[area]) for area, source in sources.items()}


def _areas(text: str) -> tuple[dict[str, AreaConfig], FieldNames]:
    path = Path(text).expanduser()
    if text == FORGETTING and not path.exists():
        return {one.stem: AreaConfig(path=str(one)) for one in sorted(PACK.glob("*.jsonl"))}, FieldNames()
    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        return _of_config(path / SWEEP_FILE if path.is_dir() else path)
    named = None if path.exists() else _NAMED.fullmatch(text)
    file = named["file"] if named else text
    name = named["name"] if named else _ENDINGS.sub("", Path(text).name)
    return {name: AreaConfig(path=file)}, FieldNames()


def _of_config(path: Path) -> tuple[dict[str, AreaConfig], FieldNames]:
    try:
        config: Any = load_bounded(path.read_bytes())
        section = {"areas": config["heldout"]["areas"]}
        fields = FieldNames.model_validate((config.get("data") or {}).get("fields") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        got = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        remedy = "name a config, a sweep's folder, or data files"
        raise UserError(f"{WHERE} {path}", "must be a config with heldout.areas", got, remedy) from None
    return _validated(section, f"{WHERE} {path}").areas, fields


def _validated(section: dict[str, Any], where: str) -> HeldoutConfig:
    try:
        return HeldoutConfig.model_validate(section)
    except ValidationError as error:
        mistakes = [
            UserError(f"{where} {'.'.join(map(str, one['loc']))}", one["msg"], one["input"], "correct it")
            for one in error.errors()
        ]
        raise UserErrors(mistakes) from None


def _plain(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "messages": sample.messages,
        "meta": sample.meta,
        "tools": sample.tools,
        "text": sample.text,
    }
