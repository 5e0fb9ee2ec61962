"""Convert GGUF files, the format of llama.cpp, to ordinary Hugging Face folders."""

from __future__ import annotations

import struct
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from trainables.errors import UserError
from trainables.models.progress_bars import no_progress_bars
from trainables.storage.checksums import sha256_of


def folder_name(file: Path) -> str:
    """Folder name of a converted file: its stem and the hash of its content."""
    return f"{file.stem}-{sha256_of(file)[:16]}"


def convert_gguf(file: Path, folder: Path) -> None:
    """Write a GGUF file's model as float32 safetensors, with tokenizer, chat template and generation settings.

    Raises:
        UserError: The file is damaged or holds a model type that `transformers` cannot read.
    """
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        with no_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(**place)
            # float32 holds every dequantized value exactly: nothing is rounded a second time.
            model = AutoModelForCausalLM.from_pretrained(
                **place, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
            _without_quantization_marks(model).save_pretrained(folder)
    except (ValueError, KeyError, IndexError, NotImplementedError, RuntimeError, struct.error) as error:
        rule = "must be a GGUF file that transformers can read"
        remedy = "fetch it again, or name the model's safetensors folder or id"
        raise UserError("model.name", rule, f"{file} ({error})", remedy) from error
    tokenizer.save_pretrained(folder)


def _without_quantization_marks(model: PreTrainedModel) -> PreTrainedModel:
    # `save_pretrained` refuses models with these marks, though the weights are plain float32 by now.
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        vars(model).pop(mark, None)
    for mark in ("quantization_config", "_model_name_or_path"):  # the latter is the file's title, not a path
        vars(model.config).pop(mark, None)
    return model
