"""GGUF files, the format of llama.cpp, turned into an ordinary Hugging Face folder."""

from __future__ import annotations

import struct
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from trainables.errors import UserError
from trainables.models.progress_bars import no_progress_bars
from trainables.storage.checksums import sha256_of


def folder_name(file: Path) -> str:
    """Name of the folder for a converted file: its own and the hash of its content."""
    return f"{file.stem}-{sha256_of(file)[:16]}"


def convert_gguf(file: Path, folder: Path) -> None:
    """Writes a GGUF file's model as safetensors in float32, with tokenizer, chat template and generation settings.

    Quantised blocks are unpacked to the numbers that they stand for: nothing is rounded once more.

    Raises:
        UserError: The file is damaged or holds a kind of model that `transformers` cannot read.
    """
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        with no_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(**place)
            model = AutoModelForCausalLM.from_pretrained(
                **place, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
            _as_never_quantised(model).save_pretrained(folder)
    except (ValueError, KeyError, IndexError, NotImplementedError, RuntimeError, struct.error) as error:
        rule = "must be a GGUF file that transformers can read"
        remedy = "fetch it again, or name the model's safetensors folder or id"
        raise UserError("model.name", rule, f"{file} ({error})", remedy) from error
    tokenizer.save_pretrained(folder)


def _as_never_quantised(model: PreTrainedModel) -> PreTrainedModel:
    """Removes the marks for which `save_pretrained` refuses; the weights are plain float32 by now."""
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        vars(model).pop(mark, None)
    for mark in ("quantization_config", "_model_name_or_path"):  # the latter is the file's title and no path
        vars(model.config).pop(mark, None)
    return model
