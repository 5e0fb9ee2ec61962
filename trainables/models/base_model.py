"""The base model, loaded once and reused by every trial with identical initial bits.

A LoRA trial gets a fresh adapter on frozen weights. A full fine-tune trains the weights themselves; a copy on the same
device restores them afterwards.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import peft
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainables.config.sections import LoraConfig, ModelConfig
from trainables.errors import UserError
from trainables.models.forward_probe import choose_plan
from trainables.models.pretrained import is_hub_id, load_tokenizer, resolve_model
from trainables.models.progress_bars import no_progress_bars

__all__ = ["Base", "load_base", "load_tokenizer", "resolve_model", "resolve_precision"]

Precision = Literal["fp32", "bf16"]


def resolve_precision(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Resolve "auto" to the faster precision for matrix products on a device."""
    if precision != "auto":
        return precision
    # GPUs: native bf16. CPUs: AMX only; AVX-512's bf16 instructions are slower than fp32 (torch 2.13, two cores
    # without AMX: bf16 products 170 GFLOPS, float32 310).
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False) else "fp32"


def load_base(
    path: str | Path,
    model: ModelConfig,
    precision: Literal["auto", "fp32", "bf16"],
    device: torch.device | str,
    *,
    gradient_checkpointing: bool = False,
) -> Base:
    """Load a base model and its tokenizer, and probe which shortcuts its forward pass can take.

    Args:
        path: A folder from `resolve_model`.
        model: Name and method.
        precision: Of the matrix products; "auto" as in `resolve_precision`.
        device: Device of the model.
        gradient_checkpointing: Recompute activations in the backward pass instead of keeping them.

    Raises:
        UserError: The folder holds no causal LM that transformers knows, or no tokenizer; or the model can't recompute.
    """
    device = torch.device(device)
    precise = resolve_precision(precision, device)
    # Trained weights stay float32 masters: a bf16 weight would swallow updates below 2^-9 of its size.
    frozen_type = torch.bfloat16 if precise == "bf16" and model.method == "lora" else torch.float32
    tokenizer = load_tokenizer(path, model)
    try:
        with no_progress_bars():
            loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                path, dtype=frozen_type, use_safetensors=True, trust_remote_code=model.trust_remote_code
            )
    except (ValueError, KeyError, OSError, ImportError) as error:
        remedy = "name a decoder language model; one with code of its own needs model.trust_remote_code=true"
        raise UserError("model.name", "must be a causal LM that transformers can load", error, remedy) from error
    if gradient_checkpointing and not loaded.supports_gradient_checkpointing:
        where, remedy = "training.gradient_checkpointing", "set it to false"
        raise UserError(where, "must be false for a model that can't recompute", type(loaded).__name__, remedy)
    if is_hub_id(model.name):
        loaded.name_or_path = model.name  # saved adapters record this; a cache path means nothing elsewhere
    nn.Module.to(loaded, device).eval()
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    choose_plan(loaded, torch.bfloat16 if precise == "bf16" else None, pad_id)
    return Base(loaded, tokenizer, model.method, precise, gradient_checkpointing=gradient_checkpointing)


class Base:
    """A base model that serves one trial after another.

    Args:
        model: The loaded model, with a `ForwardPlan`.
        tokenizer: Its tokenizer.
        method: "lora" or "full".
        precision: Of the matrix products, which run under `autocast` in bfloat16 for "bf16".
        gradient_checkpointing: Recompute activations in the backward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        method: Literal["lora", "full"],
        precision: Precision,
        *,
        gradient_checkpointing: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.method = method
        self.precision = precision
        self.gradient_checkpointing = gradient_checkpointing
        self.autocast = torch.bfloat16 if precision == "bf16" else None
        self._model = model.requires_grad_(False).eval()
        self.device = next(model.parameters()).device
        self._adapted: peft.PeftModel | None = None
        self._trained = False
        self._weights = [(weight, _compact(weight)) for weight in model.parameters()] if method == "full" else []
        self._buffers = [(module, name, buffer, buffer.clone()) for module, name, buffer in _buffers(model)]
        self._counters = [(module, _numbers(module)) for module in {id(m): m for m, *_ in self._buffers}.values()]

    def untouched(self) -> nn.Module:
        """The model as it was loaded, in evaluation mode; ends the current trial."""
        self.restore()
        return self._model

    def prepare(self, lora: LoraConfig, seed: int) -> nn.Module:
        """The model that a trial trains, in training mode; ends the current trial.

        The bits depend on the arguments only, not on earlier trials.

        Args:
            lora: The adapter's settings; ignored by full fine-tuning.
            seed: Seed of the adapter's initial weights.

        Returns:
            A `peft.PeftModel` with a float32 adapter, or the float32 model itself.

        Raises:
            UserError: `lora.target_modules` names layers that the model doesn't have.
        """
        self.restore()
        model: nn.Module
        if self.method == "lora":
            model = self._adapted = _with_adapter(self._model, lora)
            draw_adapter(model, seed)
        else:
            self._trained = True
            model = self._model.requires_grad_(True)
        if self.gradient_checkpointing:
            # Enabled last: PEFT hooks the embeddings of a checkpointing model, once more with every
            # trial.
            self._model.activation_checkpointing_enable({"use_reentrant": False})
        return model.train()

    def restore(self) -> None:
        """Remove the adapter or restore the weights bit by bit, and free gradients."""
        if self._adapted is not None:
            self._adapted.unload()
            self._adapted = None
        if self._trained:
            with torch.no_grad():
                for weight, pristine in self._weights:
                    weight.copy_(pristine)
                    weight.grad = None
            self._trained = False
        # Rotary embeddings with dynamic scaling replace their tables and store the longest length in an attribute.
        for module, name, buffer, pristine in self._buffers:
            module._buffers[name] = buffer.copy_(pristine)
        for module, numbers in self._counters:
            vars(module).update(numbers)
        if self.gradient_checkpointing:
            self._model.activation_checkpointing_disable()
            self._model.disable_input_require_grads()
        self._model.requires_grad_(False).eval()


def draw_adapter(model: nn.Module, seed: int) -> None:
    """Draw a LoRA adapter's initial weights: A uniform (Kaiming, a = sqrt 5), B zero, as in Hu et al. 2021 and PEFT."""
    # Drawn on the CPU in order of the modules' names, so that every device gets the same numbers.
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if "lora_A" in name:
                drawn = torch.empty(weight.shape, dtype=torch.float32)
                weight.copy_(nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator))
            elif "lora_B" in name:
                weight.zero_()


def _with_adapter(model: PreTrainedModel, lora: LoraConfig) -> peft.PeftModel:
    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT only divides by the rank
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    if isinstance(lora.target_modules, list):
        _check_targets(model, lora.target_modules)
    # PEFT draws weights that `draw_adapter` replaces; the fork keeps the caller's generators unchanged.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # a PEFT-transformers matter, no user can act on it
        return peft.get_peft_model(model, config)


def _check_targets(model: PreTrainedModel, targets: list[str]) -> None:
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    unknown = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in linear)]
    if unknown:
        remedy = f"choose among {', '.join(sorted({name.rpartition('.')[2] for name in linear}))}"
        raise UserError("model.lora.target_modules", "must name linear layers of the model", unknown[0], remedy)


def _compact(weight: torch.Tensor) -> torch.Tensor:
    # Most published weights are bfloat16 inside: the copy then needs half the memory and loses nothing.
    short = weight.detach().bfloat16()
    return short if torch.equal(short.to(weight.dtype), weight) else weight.detach().clone()


def _numbers(module: nn.Module) -> dict[str, int | float]:
    return {name: value for name, value in vars(module).items() if type(value) in (int, float)}


def _buffers(model: nn.Module) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            yield module, name, buffer
