"""Checkpoints that are either whole or absent: written beside their place, synced, renamed, and verifiable.

A checkpoint folder holds an adapter (`adapter_model.safetensors`, `adapter_config.json`, as `peft` loads it) or a whole
model (Hugging Face's layout), `meta.json`, `checksums.json` and, written last, `COMPLETE`. `checksums.json` maps each
file to its sha256 and `COMPLETE` holds the sha256 of `checksums.json`, so that every byte is covered.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from trainables.models.progress_bars import no_progress_bars
from trainables.storage.sealed_folder import CheckpointError, sealed, verify, write_meta

ADAPTER = "adapter_model.safetensors"

Tensors = dict[str, torch.Tensor]


class Weights(NamedTuple):
    """What a checkpoint of a model consists of.

    Attributes:
        tensors: Views of the weights that are saved, by name.
        write: Writes such tensors, these or a copy of them, and what belongs to them into a folder. It does not read
            the model's weights, so that it may run on another thread while the model trains on.
    """

    tensors: Tensors
    write: Callable[[Tensors, Path], None]


def weights_of(model: nn.Module) -> Weights:
    """What `save` writes of a model, apart, for whoever copies it first and writes it later."""
    if isinstance(model, PeftModel):
        config = copy.deepcopy(model.peft_config["default"])
        config.inference_mode = True  # as PEFT saves it
        # "auto" would ask the hub whether the vocabulary grew; adapters here never touch the embeddings.
        found: Any = get_peft_model_state_dict(model, save_embedding_layers=False)

        def write_adapter(tensors: Tensors, folder: Path) -> None:
            save_file(tensors, folder / ADAPTER, metadata={"format": "pt"})
            config.save_pretrained(str(folder))

        return Weights(dict(found), write_adapter)

    def write_model(tensors: Tensors, folder: Path) -> None:
        with no_progress_bars():
            # A copy of the dict, for it is emptied.
            model.save_pretrained(str(folder), state_dict=dict(tensors))  # type: ignore[operator]

    return Weights(dict(model.state_dict()), write_model)


def save(model: nn.Module, folder: str | Path, meta: Mapping[str, Any]) -> Path:
    """Writes a checkpoint; on return it is on disk, whole, and `verify` accepts it.

    Nothing is ever seen half-written: the files go into a sibling folder that is renamed when all are synced. A
    checkpoint already there (of an earlier attempt at the same trial) is replaced. With several workers, rank 0 alone
    calls this.

    Args:
        model: A `peft.PeftModel`, of which the adapter is saved, or a `transformers` model, saved whole in the
            precision of its weights.
        folder: Where the checkpoint goes; parents are made.
        meta: What to remember of the trial, JSON values only.

    Returns:
        The folder.

    Raises:
        OSError: The disk is full or not writable; nothing is left behind.
        TypeError: `meta` holds what JSON can't.
    """
    weights = weights_of(model)
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.tensors.items()}
    return save_weights(weights, tensors, folder, meta)


def save_weights(weights: Weights, tensors: Tensors, folder: str | Path, meta: Mapping[str, Any]) -> Path:
    """Writes a checkpoint as `save` does, of tensors that were copied.

    Args:
        weights: What `weights_of` gave.
        tensors: A contiguous copy of its tensors; what shared memory among them must share it here.
        folder: As for `save`.
        meta: As for `save`.
    """
    with sealed(Path(folder)) as partial:
        weights.write(tensors, partial)
        write_meta(partial, meta)
    return Path(folder)


def load(model: nn.Module, folder: str | Path) -> None:
    """Puts a checkpoint's weights into a model of the same kind.

    Args:
        model: What `Base.prepare` gave for the checkpoint's method and adapter settings.
        folder: A folder written by `save`; it is verified first.

    Raises:
        CheckpointError: The checkpoint is not whole, or its weights are not those of the model.
    """
    folder = Path(folder)
    names = [name for name in verify(folder) if name.endswith(".safetensors")]
    weights = {key: tensor for name in names for key, tensor in load_file(folder / name).items()}
    if isinstance(model, PeftModel):
        found: Any = set_peft_model_state_dict(model, weights)
        missing = [name for name in found.missing_keys if "lora_" in name]
    else:
        found = model.load_state_dict(weights, strict=False)
        state = model.state_dict(keep_vars=True)
        given = {state[name].data_ptr() for name in weights if name in state}
        missing = [name for name in found.missing_keys if state[name].data_ptr() not in given]  # tied ones are there
    if wrong := [*missing, *found.unexpected_keys]:
        raise CheckpointError(f"{folder}: its weights are not those of the model, as {wrong[0]} shows")
