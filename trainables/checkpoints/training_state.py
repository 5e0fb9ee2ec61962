"""What an unfinished trial goes on from: its weights, its optimizer's memory and what it had reported, at a checkpoint.

Everything else of a trial follows from its seed and the number of steps done: the samples that come next, the LR, the
dropout. So a trial that goes on gives the curve that it would have given, to the bit on the same number of CPU threads.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from trainables.storage import sealed_folder
from trainables.storage.sealed_folder import CheckpointError

logger = logging.getLogger(__name__)

TENSORS = "state.safetensors"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingState:
    """A trial at one of its checkpoints.

    Attributes:
        step: Optimizer steps done.
        tensors: Weights and the optimizer's memory, as the engine gave them.
        meta: What the trial had reported; JSON values.
    """

    step: int
    tensors: Tensors
    meta: dict[str, Any]


def save(folder: Path, state: TrainingState) -> None:
    """Writes a state; earlier ones of the trial go when it is on disk, whole.

    Args:
        folder: The trial's own folder for states.
        state: The trial as it stands.

    Raises:
        OSError: The disk is full or not writable; the state before is still there.
    """
    place = folder / f"step-{state.step}"
    with sealed_folder.sealed(place) as partial:
        save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, partial / TENSORS)
        sealed_folder.write_meta(partial, {**state.meta, "step": state.step})
    for earlier in folder.iterdir():
        if earlier != place:
            shutil.rmtree(earlier)


def load_latest(folder: Path, expected: Mapping[str, Any]) -> TrainingState | None:
    """The latest whole state of a trial; None if there is none.

    Args:
        folder: The trial's own folder for states.
        expected: What its `meta` must say, or it is another trial's and is not used.
    """
    places = folder.glob("step-*") if folder.is_dir() else []
    for place in sorted((p for p in places if p.suffix != ".partial"), key=_step, reverse=True):
        try:
            sealed_folder.verify(place)
        except CheckpointError as error:
            logger.warning("%s: the trial goes on from an earlier step", error)
            continue
        meta = sealed_folder.read_meta(place)
        if all(meta.get(name) == value for name, value in expected.items()):
            return TrainingState(meta["step"], load_file(place / TENSORS), meta)
        logger.warning("%s was written by another trial or sweep: it is not used", place)
    return None


def _step(place: Path) -> int:
    return int(place.name.removeprefix("step-"))
