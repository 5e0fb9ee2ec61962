"""Checkpoints that are either whole or absent: written beside their place, synced, renamed, and verifiable.

A checkpoint folder holds an adapter (`adapter_model.safetensors`, `adapter_config.json`, as `peft` loads it) or a whole
model (Hugging Face's layout), `meta.json`, `checksums.json` and, written last, `COMPLETE`. `checksums.json` maps each
file to its sha256 and `COMPLETE` holds the sha256 of `checksums.json`, so that every byte is covered.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from trainables.models.progress_bars import no_progress_bars
from trainables.reliability import fault_injection, watchdog
from trainables.storage.atomic import sync
from trainables.storage.sealed_folder import CHECKSUMS, COMPLETE

META = "meta.json"
ADAPTER = "adapter_model.safetensors"

Tensors = dict[str, torch.Tensor]


class CheckpointError(ValueError):
    """A checkpoint folder that is incomplete or whose content is not what was written."""


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


@contextmanager
def sealed(folder: Path) -> Iterator[Path]:
    """Inside, a folder to write to; afterwards it stands at `folder`, whole and vouched for, or not at all.

    Raises:
        OSError: The disk is full or not writable; nothing is left behind.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a worker that was killed while saving
    partial.mkdir(parents=True)
    what = "/".join(folder.parts[-3:])
    try:
        yield partial
        fault_injection.reached("folder_unsealed", what)
        _seal(partial)
        fault_injection.reached("folder_sealed", what)
        if folder.exists():
            shutil.rmtree(folder)
            fault_injection.reached("folder_displaced", what)
        partial.rename(folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, SafetensorError) and (found := re.search(r"\(os error (\d+)\)", str(error))):
            number = int(found[1])  # safetensors keeps the system's error in its words alone
            raise OSError(number, os.strerror(number), str(partial)) from error
        raise
    sync(folder.parent)


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Writes what `read_meta` reads.

    Raises:
        TypeError: `meta` holds what JSON can't.
    """
    _write_text(folder / META, json.dumps(dict(meta), indent=2, sort_keys=True))


def verify(folder: str | Path) -> dict[str, str]:
    """Checks that a checkpoint is complete and unchanged.

    Args:
        folder: A folder written by `save`. Files that `save` did not write are not looked at.

    Returns:
        sha256 of each file, by name.

    Raises:
        CheckpointError: `COMPLETE` or a file is missing, or a file's bytes are not those that were written.
    """
    folder = Path(folder)
    if not (folder / COMPLETE).is_file():
        raise CheckpointError(f"{folder}: no {COMPLETE} marker: the checkpoint was not written to its end")
    if not (folder / CHECKSUMS).is_file():
        raise CheckpointError(f"{folder}: {CHECKSUMS} is missing")
    if _sha256(folder / CHECKSUMS).encode() != (folder / COMPLETE).read_bytes().strip():
        raise CheckpointError(f"{folder}: {CHECKSUMS} is not what {COMPLETE} vouches for")
    checksums: dict[str, str] = json.loads((folder / CHECKSUMS).read_text())
    for name, expected in checksums.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing")
        if _sha256(folder / name) != expected:
            raise CheckpointError(f"{folder}: {name} is not what was written (its sha256 differs)")
    return checksums


def read_meta(folder: str | Path) -> dict[str, Any]:
    """The `meta` that a checkpoint was saved with."""
    return json.loads((Path(folder) / META).read_text())


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


def _seal(folder: Path) -> None:
    """Syncs every file, then writes the checksums, then the marker: in this order, each on disk before the next."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        sync(path)
        watchdog.beat()
    checksums = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    _write_text(folder / CHECKSUMS, json.dumps(checksums, indent=2))
    sync(folder)
    _write_text(folder / COMPLETE, _sha256(folder / CHECKSUMS) + "\n")
    sync(folder)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    sync(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
