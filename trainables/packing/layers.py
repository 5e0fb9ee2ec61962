"""Linear layers that serve several slots: the frozen product on all rows, each slot's adapter on its own rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainables.models.layers.nf4 import Nf4Linear
from trainables.packing.batches import PackedBatch


class Dropout:
    """One slot's dropout.

    Args:
        probability: Of dropping an adapter's input, 0 to below 1.
        state: Seed of this step's masks.
        device: Device on which the masks are drawn.
    """

    def __init__(self, probability: float, state: int, device: torch.device) -> None:
        self.probability, self._device = probability, device
        # A generator of its own: neither neighbors nor their order change a slot's masks.
        self.generator = torch.Generator(device).manual_seed(state)

    def mask(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Factors of the input, drawn in the order of `torch.nn.Dropout` on CPUs."""
        keep = 1.0 - self.probability
        drawn = torch.empty(shape, dtype=dtype, device=self._device)
        return drawn.bernoulli_(keep, generator=self.generator).div_(keep)


@dataclass
class Routing:
    """Assignment of rows to slots in the current forward pass, shared by a model's layers."""

    packed: PackedBatch | None = None  # the batch that is run
    dropouts: Sequence[Dropout] = ()  # one for each of its slots; empty if no slot drops anything

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """View a layer's input as (slots, rows, features).

        Raises:
            ValueError: The layer didn't get every row exactly once, as behind a mixture-of-experts router.
        """
        assert self.packed is not None, "the layers serve a pack's own steps only"
        slots, rows = self.packed.slots, self.packed.rows
        if x.shape[:-1].numel() != slots * rows:
            raise ValueError(f"a layer got {x.shape[:-1].numel()} rows of {slots * rows}: this model can't be packed")
        return x.reshape(slots, rows, x.shape[-1])

    def dropout_mask(self, x: torch.Tensor) -> torch.Tensor | None:
        """(slots, rows, features) factors of `x`, 1 in fillers; None without dropout."""
        if not self.dropouts:
            return None
        assert self.packed is not None
        # Each mask has the shape of the slot's own rectangle, so that padding doesn't shift the draws.
        mask = x.new_ones(self.packed.slots, *self.packed.shape, x.shape[-1])
        for place, dropout, own in zip(mask, self.dropouts, self.packed.own, strict=True):
            if dropout.probability > 0.0:
                place[: own[0], : own[1]] = dropout.mask((*own, x.shape[-1]), x.dtype)
        return mask.flatten(1, 2)


class PackedLinear(nn.Module):
    """A frozen linear layer with one adapter per slot; shares the weights of the `nn.Linear` that it replaces.

    A weight in 4 bits is written out once for all slots, in the forward and again in the backward pass.

    Attributes:
        down: (slots, rank x in): each slot's A, in the type of the products; set for a forward pass.
        up: (slots, out x rank): each slot's B, scaled.
    """

    def __init__(self, linear: nn.Linear, routing: Routing) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        # The layer, not its weights: where workers share them out, they are whole during a pass alone.
        self.linear, self.routing = linear, routing
        self.down: torch.Tensor | None = None
        self.up: torch.Tensor | None = None

    @property
    def weight(self) -> torch.Tensor:
        """The frozen weight, of which some models read the type."""
        return self.linear.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The frozen bias; None where there is none."""
        return self.linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """W x + b + B A x, with the A and B of each row's slot."""
        assert self.down is not None
        rows = self.routing.rows(x.to(self.down.dtype))
        bias = None if self.bias is None else self.bias.to(rows.dtype)
        out = _Adapted.apply(rows, self.linear, bias, self.down, self.up, self.routing.dropout_mask(rows))
        return out.view(*x.shape[:-1], self.out_features)


def _weight(linear: nn.Linear, dtype: torch.dtype) -> torch.Tensor:
    return linear.full(dtype) if isinstance(linear, Nf4Linear) else linear.weight.to(dtype)


# By hand, because autograd would keep two more results of the output's size and add them separately. `torch.vmap` would
# be one line, but the backward pass of attention has no batching rule under it.
class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        frozen: nn.Linear,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        slots, features = x.shape[0], x.shape[-1]
        dropped = x if mask is None else x * mask  # (slots, rows, in)
        hidden = torch.bmm(dropped, down.view(slots, -1, features).mT)  # (slots, rows, rank)
        out = functional.linear(x, _weight(frozen, x.dtype), bias)  # (slots, rows, out)
        out.baddbmm_(hidden, up.view(slots, out.shape[-1], -1).mT)
        ctx.frozen = frozen
        ctx.save_for_backward(x, down, up, hidden, mask)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, down, up, hidden, mask = ctx.saved_tensors
        slots, features = x.shape[0], x.shape[-1]
        d_hidden = torch.bmm(d_out, up.view(slots, d_out.shape[-1], -1))  # (slots, rows, rank)
        d_up = torch.bmm(d_out.mT, hidden).flatten(1)  # (slots, out x rank)
        d_down = torch.bmm(d_hidden.mT, x if mask is None else x * mask).flatten(1)
        d_x = None
        # The first layer's input needs no gradient; the frozen W and b never do.
        if ctx.needs_input_grad[0]:
            d_x = d_out @ _weight(ctx.frozen, d_out.dtype)
            if mask is None:
                d_x.baddbmm_(d_hidden, down.view(slots, -1, features))
            else:
                d_x += mask * torch.bmm(d_hidden, down.view(slots, -1, features))
        return d_x, None, None, d_down, d_up, None
