"""The base model, loaded once and reused by every trial with identical initial bits.

A LoRA trial gets a fresh adapter on frozen weights. A full fine-tune trains the weights themselves; a copy on the same
device restores them afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import peft
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainables.config.sections import LoraConfig, ModelConfig
from trainables.errors import UserError
from trainables.models.adapter.attach import attach_adapter, draw_adapter
from trainables.models.forward_plan import padding_token
from trainables.models.forward_probe import choose_plan
from trainables.models.layers.compiled import compile_layers
from trainables.models.layers.nf4 import quantize
from trainables.models.pretrained import (
    CAUSAL,
    NAME_A_DECODER,
    cannot_recompute,
    causal_config,
    is_hub_id,
    load_tokenizer,
    resolve_model,
)
from trainables.models.progress_bars import no_progress_bars
from trainables.models.safetensors_files import stored_type
from trainables.models.sharding.shards import all_workers, is_sharded, local, shard

__all__ = ["Base", "load_base", "load_tokenizer", "resolve_model", "resolve_precision"]

Precision = Literal["fp32", "bf16"]
STORED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}  # safetensors' names


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
    sharded: bool = False,
    compiles: bool = False,
) -> Base:
    """Load a base model and its tokenizer, and probe which shortcuts its forward pass can take.

    Args:
        path: A folder from `resolve_model`.
        model: Name, method and quantization.
        precision: Of the matrix products; "auto" as in `resolve_precision`.
        device: Device of the model.
        gradient_checkpointing: Recompute activations in the backward pass instead of keeping them.
        sharded: Share the weights out over the workers, who call this together.
        compiles: Compile each decoder layer.

    Raises:
        UserError: The folder holds no causal LM that transformers knows, or no tokenizer; or the model can't recompute,
            be quantized or be compiled.
    """
    device = torch.device(device)
    precise = resolve_precision(precision, device)
    # Trained weights stay float32 masters: a bf16 weight would swallow updates below 2^-9 of its size.
    frozen_type = torch.bfloat16 if precise == "bf16" and model.method == "lora" else torch.float32
    tokenizer = load_tokenizer(path, model)
    # What is made smaller on its way to the device may not fit there whole.
    place = torch.device("cpu") if model.quantize or sharded else device
    loaded = _load_mapped(path, model) if sharded and frozen_type == torch.float32 else None
    loaded = loaded or _load(path, model, frozen_type, place)
    if model.quantize:
        quantize(loaded, device)
    if gradient_checkpointing and not loaded.supports_gradient_checkpointing:
        raise cannot_recompute(type(loaded).__name__)
    if is_hub_id(model.name) or Path(model.name).is_dir():
        loaded.name_or_path = model.name  # saved adapters record this; a cache path means nothing elsewhere
    autocast = torch.bfloat16 if precise == "bf16" else None
    if sharded:
        # Frozen weights have the type of the products already.
        gathered_as = autocast if model.method == "full" else None
        shard(loaded, all_workers(device), gathered_as, in_float32=frozen_type == torch.float32)
    else:
        nn.Module.to(loaded, device)
    choose_plan(loaded.eval(), autocast, padding_token(loaded, tokenizer, 0))
    if compiles:
        compile_layers(loaded, device)
    return Base(loaded, tokenizer, model.method, precise, gradient_checkpointing=gradient_checkpointing)


def _load_mapped(path: str | Path, model: ModelConfig) -> PreTrainedModel | None:
    """The model in its files' own type, which has each value that float32 has; None where it would not.

    torch then reads the mapped files: the workers of a host share them, and none holds a copy of its own.
    """
    stored = STORED.get(stored_type(Path(path)) or "")
    if stored is None:
        return None
    loaded = _load(path, model, stored, torch.device("cpu"))
    # A table that the model computes in 16 bits, such as Gemma's scale of embeddings, would be rounded.
    if any(buffer.is_floating_point() and buffer.dtype != torch.float32 for buffer in loaded.buffers()):
        return None
    loaded.config.dtype = torch.float32
    return loaded


def _load(path: str | Path, model: ModelConfig, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    config = causal_config(path, model)
    # Each weight goes straight to a GPU: several workers of a node would else hold a whole model each in its memory.
    straight: Any = {} if device.type == "cpu" else {"device_map": {"": device}}
    try:
        with no_progress_bars():
            loaded: PreTrainedModel
            found: dict[str, Any]
            loaded, found = AutoModelForCausalLM.from_pretrained(
                path,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=model.trust_remote_code,
                output_loading_info=True,
                **straight,
            )  # type: ignore[misc]  # a pair, by the last argument
    except (ValueError, KeyError, OSError, ImportError) as error:
        raise UserError("model.name", CAUSAL, error, NAME_A_DECODER) from error
    if found["missing_keys"]:
        # transformers would draw them at random.
        lacking = f"{path} without {min(found['missing_keys'])}"
        raise UserError("model.name", "must have all weights of a causal LM", lacking, NAME_A_DECODER)
    return loaded


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
        self.is_sharded = is_sharded(model)
        self._trained = False
        self._weights = [(weight, _compact(local(weight))) for weight in model.parameters()] if method == "full" else []
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
            model = self._adapted = attach_adapter(self._model, lora)
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
                    local(weight).copy_(pristine)
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
