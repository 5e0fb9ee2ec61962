"""Clipping and AdamW for several slots at once, each with its own hyper-parameters.

A slot is a row of a matrix. No operation reduces across rows, so a slot's numbers, NaN included, reach no other slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from trainables.data.dataset import to_device


class SlotUpdate(NamedTuple):
    """One slot's next update; names and meanings as in `TrainingConfig`."""

    step: int  # number of this update in the slot's own count, 1 for the first
    lr: float  # LR of this update
    beta1: float  # settings of AdamW
    beta2: float
    eps: float
    weight_decay: float
    max_grad_norm: float  # clipping threshold; 0 means no clipping


def update_(
    weights: torch.Tensor,
    gradient: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    updates: Sequence[SlotUpdate],
) -> torch.Tensor:
    """Clip each row's gradient and take one AdamW step (Loshchilov and Hutter 2019) in place.

    The arithmetic is that of `torch.nn.utils.clip_grad_norm_` and `torch.optim.AdamW`, row by row.

    Args:
        weights: (slots, P).
        gradient: (slots, P); overwritten.
        first: (slots, P); running mean of the gradient.
        second: (slots, P); running mean of its square.
        updates: One for each slot.

    Returns:
        (slots,): each slot's gradient norm before clipping.
    """
    table = _table(updates, weights)
    keep, max_norm, forget1, beta2, forget2, step_size, correction2, eps = table.unsqueeze(-1)  # each (slots, 1)
    norms = torch.linalg.vector_norm(gradient, dim=1)
    scale = (max_norm / (norms[:, None] + 1e-6)).clamp(max=1.0)  # 1e-6 as in torch's clip_grad_norm_
    gradient.mul_(torch.where(max_norm > 0.0, scale, 1.0))
    # In place throughout, reusing `gradient`: an update that runs out of memory half-way would corrupt the trial.
    first.lerp_(gradient, forget1)
    second.mul_(beta2).add_(gradient.square_().mul_(forget2))
    change = torch.sqrt(second, out=gradient).div_(correction2).add_(eps)
    torch.div(first, change, out=change)
    weights.mul_(keep).sub_(change.mul_(step_size))
    return norms


def _table(updates: Sequence[SlotUpdate], like: torch.Tensor) -> torch.Tensor:
    """(8, slots): the factors of the formula."""
    rows = [
        (
            1.0 - u.lr * u.weight_decay,
            u.max_grad_norm,
            1.0 - u.beta1,
            u.beta2,
            1.0 - u.beta2,
            u.lr / (1.0 - u.beta1**u.step),
            (1.0 - u.beta2**u.step) ** 0.5,
            u.eps,
        )
        for u in updates
    ]
    # Factors are computed in double precision, like torch's Python scalars, and sent in one transfer without a
    # sync.
    return to_device(torch.tensor(rows, dtype=torch.float64).T.to(like.dtype), like.device)
