"""Convert pickled weights (`pytorch_model.bin`), the format before safetensors; nothing in a pickle is run."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import save_file

from trainables.errors import UserError
from trainables.models.safetensors_files import FETCH_AGAIN, INDEX, pickled_files


def convert_pickled(source: Path, folder: Path) -> None:
    """Write a model's pickled weights as safetensors, file by file, beside copies of its other files.

    Args:
        source: A folder with `pytorch_model.bin`, or with several files and their index.
        folder: The folder to fill.

    Raises:
        UserError: A file is damaged, or holds anything but tensors: then nothing of it is run.
    """
    places: dict[str, str] = {}
    files = pickled_files(source)
    for number, file in enumerate(files, start=1):
        tensors, name = _read(file), f"model-{number:05d}-of-{len(files):05d}.safetensors"
        # Tensors may share memory (tied weights), which safetensors refuses: each is written whole.
        save_file(
            {key: tensor.clone().contiguous() for key, tensor in tensors.items()}, folder / name, {"format": "pt"}
        )
        places |= dict.fromkeys(tensors, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}, indent=2), encoding="utf-8")
    for file in source.iterdir():
        if file.is_file() and file.suffix in (".json", ".jinja", ".txt", ".model", ".py") and "index" not in file.name:
            shutil.copyfile(file, folder / file.name)


def _read(file: Path) -> dict[str, torch.Tensor]:
    # `weights_only` builds tensors and plain containers only. Files of torch before 1.6 are no archives: not mapped.
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        rule = "must have weights that hold nothing but tensors"
        raise UserError("model.name", rule, f"{file} ({_first_line(error)})", FETCH_AGAIN) from error
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        remedy = "name a model in the format of transformers"
        raise UserError(
            "model.name", "must have weights by their names", f"{file} with a {type(found).__name__}", remedy
        )
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
