"""Checkpoints: sealed folders (`trainables.storage.sealed_folder`) with a model's weights and `meta.json`.

The weights are an adapter (`adapter_model.safetensors`, `adapter_config.json`, as `peft` loads it) or a whole model in
Hugging Face's layout.
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
from trainables.models.sharding.shards import local, shared_like, whole
from trainables.storage.sealed_folder import CheckpointError, sealed, verify, write_meta

ADAPTER = "adapter_model.safetensors"

Tensors = dict[str, torch.Tensor]


class Weights(NamedTuple):
    """Content of a checkpoint of a model.

    Attributes:
        tensors: Views of the weights to save, by name.
        write: Writes such tensors, or a copy of them, with their config into a folder. It does not read the model's
            weights, so it may run on another thread while the model trains on.
    """

    tensors: Tensors
    write: Callable[[Tensors, Path], None]


def weights_of(model: nn.Module) -> Weights:
    """The weights that `save` writes, for a caller that copies them first and writes them later."""
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
            # A copy of the dict: transformers empties it.
            model.save_pretrained(str(folder), state_dict=dict(tensors))  # type: ignore[operator]

    return Weights(dict(model.state_dict()), write_model)


def lend_weights(tensors: Tensors) -> None:
    """Give this worker's parts of shared tensors, of `weights_of`, to the one that copies them. Collective with it."""
    for tensor in tensors.values():
        whole(tensor)


def save(model: nn.Module, folder: str | Path, meta: Mapping[str, Any]) -> Path:
    """Write a checkpoint and return its folder; it is on disk, whole, and replaces one of an earlier attempt.

    With several workers, only rank 0 calls this.

    Args:
        model: A `peft.PeftModel`, of which the adapter is saved, or a `transformers` model, saved whole in the
            precision of its weights.
        folder: The checkpoint's folder; parents are created.
        meta: JSON values that describe the trial.

    Raises:
        OSError: The disk is full or not writable; nothing is left behind.
        TypeError: `meta` holds values that JSON can't hold.
    """
    weights = weights_of(model)
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.tensors.items()}
    return save_weights(weights, tensors, folder, meta)


def save_weights(weights: Weights, tensors: Tensors, folder: str | Path, meta: Mapping[str, Any]) -> Path:
    """Write a checkpoint as `save` does, from copied tensors.

    Args:
        weights: From `weights_of`.
        tensors: A contiguous copy of its tensors; those that share memory must share it in the copy.
        folder: As for `save`.
        meta: As for `save`.
    """
    with sealed(Path(folder)) as partial:
        weights.write(tensors, partial)
        write_meta(partial, meta)
    return Path(folder)


def load(model: nn.Module, folder: str | Path) -> None:
    """Verify a checkpoint and load its weights into a model.

    Args:
        model: From `Base.prepare`, for the checkpoint's method and adapter settings.
        folder: A folder written by `save`.

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
        state = model.state_dict(keep_vars=True)
        weights = {name: shared_like(tensor, state.get(name, tensor)) for name, tensor in weights.items()}
        found = model.load_state_dict(weights, strict=False)
        # Of tied weights transformers saves one name; the others are in place by their shared memory.
        given = {local(state[name]).data_ptr() for name in weights if name in state}
        missing = [name for name in found.missing_keys if local(state[name]).data_ptr() not in given]
    if wrong := [*missing, *found.unexpected_keys]:
        raise CheckpointError(f"{folder}: its weights are not those of the model, as {wrong[0]} shows")
