"""Where a base model lies: hub id, folder, GGUF file or `random:tiny-llama`, made a folder of safetensors.

torch is imported only where weights are converted or downloaded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables import tiny
from trainables.config import ModelConfig
from trainables.errors import UserError


@dataclass(frozen=True)
class WeightsSummary:
    """A model's size, read from the headers of its files.

    Attributes:
        parameters: All parameters; tied ones count once.
        linear_shapes: (rows, columns) of each matrix but embeddings and output head.
    """

    parameters: int
    linear_shapes: list[tuple[int, int]]


def resolve_model(model: ModelConfig, cache: Path) -> Path:
    """The folder that holds a model as safetensors, made or fetched once.

    Args:
        model: The config's section.
        cache: Where converted models are kept.

    Raises:
        UserError: There is no such model, or it has no safetensors.
    """
    if model.name == tiny.NAME:
        return _made_once(cache / "random-tiny-llama", tiny.build_tiny_llama)
    path = Path(model.name).expanduser()
    if path.suffix == ".gguf":
        return _converted(path, cache)
    if path.is_dir():
        return _checked(path)
    if path.is_absolute() or model.name.startswith(".") or model.name.count("/") != 1:
        raise UserError(
            "model.name",
            "must be a folder, a .gguf file or a Hugging Face id",
            model.name,
            "check the path (`make demo-model` fetches the demo's)",
        )
    return _from_hub(model)


def load_tokenizer(path: Path | str, model: ModelConfig | None = None) -> Any:
    """The tokenizer of a model folder.

    Raises:
        UserError: It can't be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=bool(model and model.trust_remote_code))
    except (OSError, ValueError) as error:
        raise UserError("model.name", "must come with a tokenizer", f"{path}: {error}", "add its files") from error


def summarise_weights(path: Path) -> WeightsSummary:
    """Counts parameters in the headers of a folder's safetensors files."""
    shapes: dict[str, list[int]] = {}
    for file in sorted(path.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        shapes |= {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
    linear = [
        (shape[0], shape[1])
        for name, shape in shapes.items()
        if len(shape) == 2 and not any(part in name for part in ("embed", "lm_head", "wte", "wpe", "norm"))
    ]
    return WeightsSummary(sum(math.prod(shape) for shape in shapes.values()), linear)


def _checked(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise UserError("model.name", "must be a model folder with a config.json", path, "name the folder itself")
    if not any(path.glob("*.safetensors")):
        have = ", ".join(sorted(file.name for file in path.iterdir() if file.suffix in (".bin", ".pt", ".gguf")))
        raise UserError(
            "model.name", "must hold its weights as safetensors", have or "no weights", "convert it: .bin runs code"
        )
    return path


def _from_hub(model: ModelConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"] + (["*.py"] if model.trust_remote_code else [])
    try:
        return _checked(Path(snapshot_download(model.name, revision=model.revision, allow_patterns=wanted)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).splitlines()[0]
        raise UserError("model.name", "must be on the hub or on disk", f"{model.name}: {reason}", "check it") from error


def _converted(path: Path, cache: Path) -> Path:
    if not path.is_file():
        raise UserError("model.name", "must be a file that exists", path, "check the path")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _made_once(cache / f"{path.stem}-{digest[:12]}", lambda folder: convert_gguf(path, folder))


def convert_gguf(path: Path, folder: Path) -> None:
    """Writes a GGUF model as float32 safetensors with its tokenizer, chat template and generation config.

    Raises:
        UserError: transformers can't read it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**place)
        model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise UserError("model.name", "must be a GGUF model that transformers reads", error, "convert it") from error
    # The weights are plain float32 now; with these marks `save_pretrained` would refuse.
    for mark in ("hf_quantizer", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Makes a folder beside its place and renames it: whoever sees it sees it whole."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        draft.chmod(0o755)
        make(draft)
        if not folder.is_dir():
            os.rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
