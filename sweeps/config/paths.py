"""The paths of a config, made absolute when a sweep starts: a resume may run in another folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.records.lineage import LINK
from trainables.storage.object_store import is_url

if TYPE_CHECKING:
    from sweeps.config.sweep_config import SweepConfig


def with_absolute_paths(config: SweepConfig) -> SweepConfig:
    """The config with every path of a file or folder that exists made absolute, and `storage_path` in any case.

    Hub ids, URLs, `random:` models and `NAME@ID` stay, and so do paths where nothing is.
    """
    areas = {
        name: area.model_copy(update={"path": _absolute(area.path)}) for name, area in config.heldout.areas.items()
    }
    parent, place = config.parent, config.storage_path
    return config.model_copy(
        update={
            "storage_path": place if is_url(place) else _real(place),
            "parent": parent if parent is None or LINK.fullmatch(parent) else _absolute(parent),
            "model": config.model.model_copy(update={"name": _absolute(config.model.name)}),
            "data": config.data.model_copy(update={"train": _absolute(config.data.train)}),
            "heldout": config.heldout.model_copy(update={"areas": areas}),
            "search": config.search.model_copy(
                update={"warm_start": [_absolute(name) for name in config.search.warm_start]}
            ),
        }
    )


def _absolute(path: str) -> str:
    # What does not exist may be a hub id, or lie where the sweep was started: it must not get a wrong place for good.
    return _real(path) if not is_url(path) and Path(path).expanduser().exists() else path


def _real(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())
