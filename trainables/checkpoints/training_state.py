"""Training states, from which an unfinished trial resumes: weights, optimizer state and reports at a checkpoint.

The order of samples, the LR and the dropout follow from the trial's seed and the number of steps done. So a resumed
trial continues its curve exactly, to the bit on the same number of CPU threads.
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
        tensors: Weights and optimizer state, as the engine names them.
        meta: The trial's spec and reports; JSON values.
    """

    step: int
    tensors: Tensors
    meta: dict[str, Any]


def write(folder: Path, state: TrainingState) -> Path:
    """Write a state beside the earlier ones and return its folder.

    Args:
        folder: The trial's folder of states.
        state: The state.

    Raises:
        OSError: The disk is full or not writable.
    """
    place = folder / f"step-{state.step}"
    with sealed_folder.sealed(place) as partial:
        save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, partial / TENSORS)
        sealed_folder.write_meta(partial, {**state.meta, "step": state.step})
    return place


def drop_earlier(place: Path) -> None:
    """Remove the states beside this one."""
    for earlier in place.parent.iterdir():
        if earlier != place:
            shutil.rmtree(earlier)


def load(place: Path) -> TrainingState:
    """Load a state of `whole_states`."""
    meta = sealed_folder.read_meta(place)
    return TrainingState(int(meta["step"]), load_file(place / TENSORS), meta)


def whole_states(folder: Path, expected: Mapping[str, Any]) -> dict[int, Path]:
    """The folder of each whole state of a trial, by its step.

    Args:
        folder: The trial's folder of states.
        expected: Values that `meta` must hold; a state with others is another trial's and is not used.
    """
    found = {}
    places = folder.glob("step-*") if folder.is_dir() else []
    for place in sorted((p for p in places if p.suffix != ".partial"), key=_step, reverse=True):
        try:
            sealed_folder.verify(place)
        except CheckpointError as error:
            logger.warning("%s: the trial goes on from an earlier step", error)
            continue
        meta = sealed_folder.read_meta(place)
        if all(meta.get(name) == value for name, value in expected.items()):
            found[int(meta["step"])] = place
        else:
            logger.warning("%s was written by another trial or sweep: it is not used", place)
    return found


def _step(place: Path) -> int:
    return int(place.name.removeprefix("step-"))
