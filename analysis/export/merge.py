"""Loads the trained model from its checkpoint and merges its adapter into the base."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from trainables.checkpoints import checkpoint
from trainables.models.layers.nf4 import quantize

log = getLogger(__name__)

MAX_TOKENS = 256
PROMPTS = (
    "The total of the second column is",
    "Question: What is the invoice number?\nAnswer:",
    "1, 1, 2, 3, 5, 8, 13,",
    "def mean(values):\n    return",
)


def prompt_ids(base: Path, texts: Sequence[str], *, trust: bool = False) -> list[torch.Tensor]:
    """(tokens,) int64 ids of some fixed texts and the given ones, each cut at 256 tokens; empty ones are left out."""
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=trust)
    found = [tokenizer(text, return_tensors="pt").input_ids[0, :MAX_TOKENS] for text in [*PROMPTS, *texts]]
    return [ids for ids in found if ids.numel() > 0]


def load_trained(base: Path, source: Path, *, adapter: bool, trust: bool = False, quantized: bool = False) -> nn.Module:
    """Loads the base model in float32 with a checkpoint's weights, unmerged.

    Args:
        base: Folder of the base model.
        source: Folder of the checkpoint.
        adapter: Whether it holds a LoRA adapter.
        trust: Run code that comes with the model.
        quantized: Put the base into 4 bits, as it was in training.
    """
    log.info("loading the trained model")
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=trust).eval()
    if quantized:
        quantize(model, model.device)
    if not adapter:
        checkpoint.load(model, source)
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads an attribute that transformers has renamed
        return PeftModel.from_pretrained(model, str(source)).eval()


def merge_into(model: nn.Module, out: Path) -> None:
    """Merges the adapter in float32, in place, and saves the model as safetensors."""
    assert isinstance(model, PeftModel)
    log.info("merging the adapter and writing the weights")
    model.merge_and_unload().save_pretrained(out)
    for weights in out.glob("*.safetensors"):  # safetensors makes files readable only by their owner
        weights.chmod((out / "config.json").stat().st_mode)
