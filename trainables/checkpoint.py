"""Checkpoints that are either whole or absent: written beside their place, synced, renamed, and verifiable.

A checkpoint folder holds an adapter (`adapter_model.safetensors`, `adapter_config.json`, as `peft` loads it) or a whole
model (Hugging Face's layout), `meta.json`, `checksums.json` and, written last, `COMPLETE`. `checksums.json` maps each
file to its sha256 and `COMPLETE` holds the sha256 of `checksums.json`, so that every byte is covered.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from trainables import stages
from trainables.pretrained import no_progress_bars

CHECKSUMS, COMPLETE, META = "checksums.json", "COMPLETE", "meta.json"


class CheckpointError(ValueError):
    """A checkpoint folder that is incomplete or whose content is not what was written."""


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
    with sealed(Path(folder)) as partial:
        _write_weights(model, partial)
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
        stages.reached("folder_unsealed", what)
        _seal(partial)
        stages.reached("folder_sealed", what)
        if folder.exists():
            shutil.rmtree(folder)
            stages.reached("folder_displaced", what)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(folder.parent)


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


def _write_weights(model: nn.Module, folder: Path) -> None:
    if isinstance(model, PeftModel):
        # "auto" would ask the hub whether the vocabulary grew; adapters here never touch the embeddings.
        model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    else:
        with no_progress_bars():
            model.save_pretrained(str(folder), safe_serialization=True)  # type: ignore[operator]


def _seal(folder: Path) -> None:
    """Syncs every file, then writes the checksums, then the marker: in this order, each on disk before the next."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _sync(path)
    checksums = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    _write_text(folder / CHECKSUMS, json.dumps(checksums, indent=2))
    _sync(folder)
    _write_text(folder / COMPLETE, _sha256(folder / CHECKSUMS) + "\n")
    _sync(folder)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    """Waits until a file, or a folder's list of entries, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
