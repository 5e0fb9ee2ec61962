"""A model's weight files: which there are, and whether they are whole. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from trainables.errors import UserError

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
INDEX = "model.safetensors.index.json"
PICKLED_WEIGHTS = "pytorch_model.bin"
TO_SAFETENSORS = "convert the weights to safetensors, or name a model that has them"
FETCH_AGAIN = "fetch the model again"


def check_weights(folder: Path) -> None:
    """Check that a model's safetensors files are all there and whole, by their headers.

    Raises:
        UserError: There are none, one is missing or damaged, or the weights are pickled.
    """
    for file in weight_files(folder):
        try:
            with safe_open(str(file), framework="numpy"):  # refuses a truncated file
                pass
        except (SafetensorError, OSError) as error:
            raise _error("must have weights that are whole", f"{file} ({error})", FETCH_AGAIN) from error


def weight_files(folder: Path) -> list[Path]:
    """List a model's safetensors files.

    Raises:
        UserError: There are none, or one that the index names is missing.
    """
    if (folder / INDEX).is_file():
        return _indexed(folder / INDEX)
    if files := sorted(folder.glob("*.safetensors")):
        return files
    others = sorted(file.name for file in folder.iterdir() if file.suffix in (*PICKLED, ".gguf"))
    if not others:
        raise _error("must have safetensors weights", f"{folder} without any weights", FETCH_AGAIN)
    if others[0].endswith(".gguf"):
        raise _error("must have safetensors weights", f"{folder} with {others[0]}", "name the .gguf file itself")
    rule = "must have safetensors weights (loading pickled ones can run any code)"
    raise _error(rule, f"{folder} with {others[0]}", TO_SAFETENSORS)


def stored_type(folder: Path) -> str | None:
    """The one type of all floating-point weights, as safetensors names it ("F32", "F16", "BF16"); None if they differ.

    Raises:
        UserError: As `weight_files`.
    """
    types = set()
    for file in weight_files(folder):
        with safe_open(str(file), framework="numpy") as weights:
            types |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 - no mapping
    floating = {name for name in types if "F" in name}
    return floating.pop() if len(floating) == 1 else None


def pickled_files(folder: Path) -> list[Path]:
    """List a model's pickled files; empty where it has none.

    Raises:
        UserError: One that the index names is missing.
    """
    index = folder / f"{PICKLED_WEIGHTS}.index.json"
    if index.is_file():
        return _indexed(index)
    whole = folder / PICKLED_WEIGHTS
    return [whole] if whole.is_file() else []


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


def _indexed(index: Path) -> list[Path]:
    files = [index.parent / name for name in sorted(set(read_json(index).get("weight_map", {}).values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise _error("must have all of its weight files", f"{index.parent} without {missing[0]}", FETCH_AGAIN)
    return files


def _error(rule: str, got: str, remedy: str) -> UserError:
    return UserError("model.name", rule, got, remedy)
