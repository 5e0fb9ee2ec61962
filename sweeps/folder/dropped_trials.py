"""Trials that a user drops from a running sweep: a file for each, which the driver reads, and again after a resume."""

from __future__ import annotations

import json
from pathlib import Path

from trainables.storage.atomic import write_whole
from trainables.storage.layout import DROPPED_FOLDER

ENDING = ".json"


def ask_to_drop(folder: Path, trial_id: str, user: str) -> None:
    """Asks a sweep's driver to end a running trial, as early stopping would. It may be asked twice.

    Args:
        folder: The sweep's.
        trial_id: A trial of its search.
        user: Who asks.
    """
    asked = folder / DROPPED_FOLDER
    asked.mkdir(exist_ok=True)
    write_whole(asked / f"{trial_id}{ENDING}", json.dumps({"user": user}))


def asked_to_drop(folder: Path) -> dict[str, str]:
    """Who asked to drop each trial, by trial id."""
    asked = folder / DROPPED_FOLDER
    if not asked.is_dir():  # looked at twice a second
        return {}
    files = [path for path in asked.iterdir() if path.suffix == ENDING and not path.name.startswith(".")]
    return {path.stem: _user(path) for path in files}


def _user(path: Path) -> str:
    # The file's name is the request; a damaged text must end no sweep.
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["user"])
    except (ValueError, KeyError, TypeError):
        return "unknown"
