"""A frozen base model in 4 bits: NF4 with double quantization (QLoRA, Dettmers et al. 2023), by bitsandbytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from trainables.models.adapter.targets import TAKEN_FOR_EXPERTS, Targets, adaptable
from trainables.models.pretrained import bitsandbytes_is_missing, nothing_to_quantize


class Nf4Linear(nn.Linear):
    """A linear layer whose frozen weight is kept in 4 bits, and written out wherever it is used.

    To PEFT and to packs it is a linear layer like others. `bitsandbytes.nn.Linear4bit` would not be: PEFT puts a layer
    of another kind on it, and in evaluation it rounds to bf16 on CPUs with AVX512-BF16 (bitsandbytes 0.50).

    Args:
        linear: The layer to replace; its weight is (out, in).
        device: Where the quantized weight goes.
    """

    def __init__(self, linear: nn.Linear, device: torch.device) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        packed, self._state = quantized(linear.weight.detach().to(device))
        self.weight = nn.Parameter(packed, requires_grad=False)

    def full(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight written out: (out, in)."""
        return dequantized(self.weight, self._state).to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """W x + b, in autocast's type where autocast is on, else in that of `x`."""
        device = x.device.type
        x = x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x
        return _Product.apply(x, self, None if self.bias is None else self.bias.to(x.dtype))


# By hand, because autograd would keep each layer's written-out weight until the backward pass.
class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: Nf4Linear, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.layer = layer
        return functional.linear(x, layer.full(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return d_out @ ctx.layer.full(d_out.dtype), None, None


def quantizable(model: PreTrainedModel) -> Targets:
    """What NF4 takes: the linear layers that an adapter can change, but no experts that are held as one tensor."""
    every = adaptable(model)
    # PEFT adapts a dense layer of such a name as a weight, without its layer, where a model has experts.
    taken = TAKEN_FOR_EXPERTS if every.tensors else set()
    linear = {name: layer for name, layer in every.layers.items() if type(layer) is nn.Linear}
    return Targets({name: layer for name, layer in linear.items() if name.rpartition(".")[2] not in taken}, {})


def quantize(model: PreTrainedModel, device: torch.device) -> None:
    """Replace a model's linear layers by `Nf4Linear` on a device, one by one.

    Raises:
        UserError: bitsandbytes is not installed, or the model has no such layer.
    """
    if error := bitsandbytes_is_missing("model.quantize"):
        raise error
    layers = quantizable(model).layers
    if not layers:
        raise nothing_to_quantize(type(model).__name__)
    for name in layers:  # never two copies of more than a layer
        model.set_submodule(name, Nf4Linear(model.get_submodule(name), device))  # type: ignore[arg-type]


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """A weight in blocks of 64, and the scales and shape to write it out again; the scales are in 8 bits."""
    from bitsandbytes.functional import quantize_4bit

    return quantize_4bit(weight, compress_statistics=True, quant_type="nf4")


def dequantized(packed: torch.Tensor, state: Any) -> torch.Tensor:
    """A weight as the quantization has left it, in its type from before."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(packed, state)
