"""The base model in memory, and how a trial gets its own weights on it and gives the pristine base back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import peft
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainables.attention import FLAT, PADDED, supports_flat
from trainables.config import LoraConfig, ModelConfig
from trainables.errors import UserError
from trainables.weights import load_tokenizer, resolve_model

__all__ = ["Base", "load_base", "load_tokenizer", "resolve_model"]

Precision = Literal["auto", "fp32", "bf16"]


class Base:
    """The base model of a lane, pristine between trials.

    Args:
        model: The loaded model.
        tokenizer: Its tokenizer.
        method: "lora" freezes it and adds adapters; "full" trains it.
        autocast: Type of matrix products in a forward pass; None for the weights' own.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, method: Literal["lora", "full"], autocast: torch.dtype | None
    ) -> None:
        self.model, self.tokenizer, self.method, self.autocast = model, tokenizer, method, autocast
        self._adapted: peft.PeftModel | None = None
        self._trained = False
        model.requires_grad_(method == "full")
        # On the host: beside a full fine-tune's weights, gradients and moments, a GPU has no room for a copy.
        self._pristine = (
            {name: weight.detach().to("cpu", copy=True) for name, weight in model.named_parameters()}
            if method == "full"
            else {}
        )

    def prepare(self, lora: LoraConfig, seed: int) -> nn.Module:
        """The model that a trial trains: weights pristine, adapters new and drawn from `seed` alone.

        Args:
            lora: The trial's adapter settings; not read in a full fine-tune.
            seed: Seed of the adapters' initial weights.

        Returns:
            The model in training mode; the same bits whatever was trained before.
        """
        self.restore()
        if self.method == "full":
            self._trained = True
            return self.model.train()
        torch.manual_seed(seed)
        settings = peft.LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
            task_type="CAUSAL_LM",
        )
        try:
            self._adapted = peft.get_peft_model(self.model, settings, autocast_adapter_dtype=True)
        except ValueError as error:
            raise UserError("model.lora.target_modules", "must name modules", error, "try all-linear") from error
        return self._adapted.train()

    def restore(self) -> None:
        """Makes the base pristine again."""
        if self._adapted is not None:
            self.model = self._adapted.unload()
            self._adapted = None
        if self._trained:
            with torch.no_grad():
                for name, weight in self.model.named_parameters():
                    weight.copy_(self._pristine[name])
                    weight.grad = None
            self._trained = False

    def untouched(self) -> nn.Module:
        """The pristine base itself, in evaluation mode."""
        self.restore()
        return self.model.eval()


def load_base(
    path: str | Path,
    model: ModelConfig,
    precision: Precision,
    device: torch.device | str = "cpu",
    *,
    max_tokens: int = 2**31,
    gradient_checkpointing: bool = False,
) -> Base:
    """Loads a model folder for a lane.

    Trained weights are float32: in bf16 an LR of 1e-5 loses most updates to rounding. Frozen ones are bf16 where
    matrix products are.

    Args:
        path: From `resolve_model`.
        model: The config's section.
        precision: "bf16", "fp32", or "auto" for bf16 where the device computes in it.
        device: Where the model goes.
        max_tokens: Longest sequence, which decides whether a sliding window matters.
        gradient_checkpointing: Recompute activations in the backward pass.
    """
    device = torch.device(device)
    bf16 = precision == "bf16" or (precision == "auto" and has_bf16(device))
    dtype = torch.bfloat16 if bf16 and model.method == "lora" else torch.float32
    loaded = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, attn_implementation=PADDED, trust_remote_code=model.trust_remote_code, use_safetensors=True
    ).to(device)
    if supports_flat(loaded, max_tokens):
        loaded.set_attn_implementation(FLAT)
    if gradient_checkpointing:
        loaded.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return Base(loaded, load_tokenizer(path, model), model.method, torch.bfloat16 if bf16 else None)


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes bf16 products in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
