"""A model's safetensors files: completeness, and sizes from their headers. Imports no torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from trainables.errors import UserError

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
TO_SAFETENSORS = "convert the weights to safetensors, or name a model that has them"
FETCH_AGAIN = "fetch the model again"
NOT_LINEAR = ("embed", "lm_head", "wte", "wpe", "norm")


@dataclass(frozen=True)
class WeightsSummary:
    """A model's size, read from the headers of its files."""

    parameters: int  # all weights; tied ones count once
    linear_shapes: list[tuple[int, int]]  # (rows, columns) of each matrix except embeddings and output head


def summarize_weights(folder: str | Path) -> WeightsSummary:
    """Count a model's weights from the file headers.

    Raises:
        UserError: There are no safetensors files, one is missing or damaged, or the weights are pickled.
    """
    shapes = {name: shape for file in weight_files(Path(folder)) for name, shape in _shapes(file).items()}
    linear = [
        (shape[0], shape[1])
        for name, shape in shapes.items()
        if len(shape) == 2 and not any(part in name for part in NOT_LINEAR)
    ]
    return WeightsSummary(sum(math.prod(shape) for shape in shapes.values()), linear)


def weight_files(folder: Path) -> list[Path]:
    """List a model's safetensors files.

    Raises:
        UserError: There are none, or one that the index names is missing.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in sorted(set(read_json(index).get("weight_map", {}).values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise _error("must have all of its weight files", f"{folder} without {missing[0]}", FETCH_AGAIN)
        return files
    if files := sorted(folder.glob("*.safetensors")):
        return files
    others = sorted(file.name for file in folder.iterdir() if file.suffix in (*PICKLED, ".gguf"))
    if not others:
        raise _error("must have safetensors weights", f"{folder} without any weights", FETCH_AGAIN)
    if others[0].endswith(".gguf"):
        raise _error("must have safetensors weights", f"{folder} with {others[0]}", "name the .gguf file itself")
    rule = "must have safetensors weights (loading pickled ones can run any code)"
    raise _error(rule, f"{folder} with {others[0]}", TO_SAFETENSORS)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: The file holds something else.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _error(f"{file.name} must be JSON", f"{file} ({error})", FETCH_AGAIN) from error
    if not isinstance(value, dict):
        raise _error(f"{file.name} must be a JSON object", str(file), FETCH_AGAIN)
    return value


def _shapes(file: Path) -> dict[str, list[int]]:
    try:
        with safe_open(str(file), framework="numpy") as tensors:  # refuses a truncated file
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        raise _error("must have weights that are whole", f"{file} ({error})", FETCH_AGAIN) from error


def _error(rule: str, got: str, remedy: str) -> UserError:
    return UserError("model.name", rule, got, remedy)
