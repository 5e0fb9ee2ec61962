"""The size of micro-batches found where memory ran out within a collective pass, kept in the sweep's folder.

Where workers share the weights out, the one whose memory runs out can't tell the others: the lane ends, and its next
start uses smaller micro-batches.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

from trainables.config.trial_spec import LaneConfig
from trainables.optim.workers import World
from trainables.storage.atomic import write_whole
from trainables.storage.layout import CACHE_FOLDER

FILE = f"{CACHE_FOLDER}/micro_batch_tokens.json"


def keep(folder: Path, tokens: int) -> None:
    """Record that micro-batches may have at most so many tokens; a lower number stays."""
    file = folder / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    # The workers of a lane run out at the same step: unlocked, one that read before another wrote would put it back.
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_whole(file, json.dumps(min([tokens, *_found(folder)])) + "\n")


def with_found(settings: LaneConfig, world: World) -> LaneConfig:
    """The settings with the lowest size that a worker's copy of the sweep's folder has, if any. Collective."""
    asked = settings.training.micro_batch_tokens
    found = [number for numbers in world.together(lambda: _found(Path(settings.output_dir))) for number in numbers]
    if not found:
        return settings
    limit = min([*found, *([] if asked == "auto" else [asked])])
    return settings.model_copy(update={"training": settings.training.model_copy(update={"micro_batch_tokens": limit})})


def _found(folder: Path) -> list[int]:
    file = folder / FILE
    return [int(json.loads(file.read_text(encoding="utf-8")))] if file.is_file() else []
