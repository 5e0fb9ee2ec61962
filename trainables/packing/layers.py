"""Linear layers that serve several slots at once: the frozen product on all rows, each slot's adapter on its own.

`torch.vmap` would do the same in one line, but the backward of attention has no batching rule of its own under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainables.packing.batches import PackedBatch


class Dropout:
    """One slot's dropout: masks from a generator of its own, so that neither neighbours nor their order show in them.

    Args:
        probability: Of an adapter's input being dropped, 0 to below 1.
        state: Seed of this step's masks.
        device: Where the masks are drawn.
    """

    def __init__(self, probability: float, state: int, device: torch.device) -> None:
        self.probability = probability
        self.generator = torch.Generator(device).manual_seed(state)

    def mask(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Factors of the input, in the order in which `torch.nn.Dropout` draws them on CPUs."""
        keep = 1.0 - self.probability
        drawn = torch.empty(shape, dtype=dtype, device=self.generator.device)
        return drawn.bernoulli_(keep, generator=self.generator).div_(keep)


@dataclass
class Routing:
    """Which rows belong to which slot in the forward pass under way; shared by the layers of a model.

    Attributes:
        packed: What is being run.
        dropouts: One for each of its slots; empty if none of them drops anything.
    """

    packed: PackedBatch | None = None
    dropouts: Sequence[Dropout] = ()

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """A layer's input as (slots, rows, features).

        Raises:
            ValueError: The layer was not given every row, once: a router chose some.
        """
        assert self.packed is not None, "the layers serve a pack's own steps only"
        slots, rows = self.packed.slots, self.packed.rows
        if x.shape[:-1].numel() != slots * rows:
            raise ValueError(f"a layer got {x.shape[:-1].numel()} rows of {slots * rows}: this model can't be packed")
        return x.reshape(slots, rows, x.shape[-1])

    def dropout_mask(self, x: torch.Tensor) -> torch.Tensor | None:
        """(slots, rows, features) factors of `x`, 1 in fillers; None if nothing is dropped."""
        if not self.dropouts:
            return None
        assert self.packed is not None
        mask = x.new_ones(self.packed.slots, *self.packed.shape, x.shape[-1])
        for place, dropout, own in zip(mask, self.dropouts, self.packed.own, strict=True):
            if dropout.probability > 0.0:
                place[: own[0], : own[1]] = dropout.mask((*own, x.shape[-1]), x.dtype)
        return mask.flatten(1, 2)


class PackedLinear(nn.Module):
    """A frozen linear layer with one adapter a slot, in place of an `nn.Linear` whose weights it shares.

    Args:
        linear: The layer.
        routing: Says which rows belong to which slot.

    Attributes:
        down: (slots, rank x in): each slot's A, in the type that products are computed in; set for a forward pass.
        up: (slots, out x rank): each slot's B, scaled.
    """

    def __init__(self, linear: nn.Linear, routing: Routing) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias, self.routing = linear.weight, linear.bias, routing
        self.down: torch.Tensor | None = None
        self.up: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """W x + b + B A x, with the A and B of the slot that a row belongs to."""
        assert self.down is not None
        rows = self.routing.rows(x.to(self.down.dtype))
        weight, bias = self.weight.to(rows.dtype), None if self.bias is None else self.bias.to(rows.dtype)
        out = _Adapted.apply(rows, weight, bias, self.down, self.up, self.routing.dropout_mask(rows))
        return out.view(*x.shape[:-1], self.out_features)


class _Adapted(torch.autograd.Function):
    """The layer's arithmetic by hand: autograd would keep two more results of the output's size and add them apart."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        slots, features = x.shape[0], x.shape[-1]
        seen = x if mask is None else x * mask
        hidden = torch.bmm(seen, down.view(slots, -1, features).mT)  # (slots, rows, rank)
        out = functional.linear(x, weight, bias)
        out.baddbmm_(hidden, up.view(slots, weight.shape[0], -1).mT)
        ctx.save_for_backward(x, weight, down, up, hidden, mask)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, down, up, hidden, mask = ctx.saved_tensors
        slots, features = x.shape[0], x.shape[-1]
        d_hidden = torch.bmm(d_out, up.view(slots, weight.shape[0], -1))  # (slots, rows, rank)
        d_up = torch.bmm(d_out.mT, hidden).flatten(1)
        d_down = torch.bmm(d_hidden.mT, x if mask is None else x * mask).flatten(1)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = d_out @ weight
            if mask is None:
                d_x.baddbmm_(d_hidden, down.view(slots, -1, features))
            else:
                d_x += mask * torch.bmm(d_hidden, down.view(slots, -1, features))
        return d_x, None, None, d_down, d_up, None
