"""The paths of a config, made absolute when a sweep starts: a resume may run in another folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.records.lineage import LINK
from sweeps.config.environment import is_path
from trainables.config.fields import Place
from trainables.config.sections import Section
from trainables.storage.object_store import is_url

if TYPE_CHECKING:
    from sweeps.config.sweep_config import SweepConfig


def with_absolute_paths(config: SweepConfig) -> SweepConfig:
    """The config with every path of a file or folder that exists made absolute, and `storage_path` in any case.

    Hub ids, URLs, `random:` models and `NAME@ID` stay, and so do paths where nothing is.
    """
    place = config.storage_path
    stored = config.model_copy(update={"storage_path": place if is_url(place) else _real(place)})
    found: SweepConfig = _each_path(stored, ())
    return found


def _each_path(value: Any, place: Place) -> Any:
    if isinstance(value, Section):
        parts = {name: _each_path(getattr(value, name), (*place, name)) for name in type(value).model_fields}
        return value.model_copy(update=parts)
    if isinstance(value, dict):
        return {key: _each_path(inner, (*place, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_each_path(inner, (*place, number)) for number, inner in enumerate(value)]
    return _absolute(value) if isinstance(value, str) and is_path(place) else value


def _absolute(path: str) -> str:
    # What does not exist may be a hub id, or lie where the sweep was started: it must not get a wrong place for good.
    known = not is_url(path) and not LINK.fullmatch(path) and Path(path).expanduser().exists()
    return _real(path) if known else path


def _real(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())
