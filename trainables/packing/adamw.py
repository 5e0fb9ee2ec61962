"""AdamW behind a clipped gradient norm for several slots at once, each with numbers of its own.

A slot is a row of a matrix; nothing is summed across rows, so that no slot's numbers, NaN included, reach another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class SlotUpdate(NamedTuple):
    """What one slot's next update is made with; the names and meanings are `TrainingConfig`'s.

    Attributes:
        step: Number of this update in the slot's own count, 1 for the first.
        lr: LR of this update.
        beta1, beta2, eps, weight_decay: AdamW's numbers.
        max_grad_norm: Clipping threshold; 0 means no clipping.
    """

    step: int
    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    max_grad_norm: float


def update_(
    weights: torch.Tensor,
    gradient: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    updates: Sequence[SlotUpdate],
) -> torch.Tensor:
    """One step of AdamW (Loshchilov and Hutter 2019) in place, each row after clipping its own gradient.

    The arithmetic is that of `torch.nn.utils.clip_grad_norm_` and `torch.optim.AdamW`, row by row. It allocates nothing
    of the weights' size: running out of memory can't leave some of them updated.

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
    first.lerp_(gradient, forget1)
    second.mul_(beta2).add_(gradient.square_().mul_(forget2))
    change = torch.sqrt(second, out=gradient).div_(correction2).add_(eps)
    torch.div(first, change, out=change)
    weights.mul_(keep).sub_(change.mul_(step_size))
    return norms


def _table(updates: Sequence[SlotUpdate], like: torch.Tensor) -> torch.Tensor:
    """(8, slots): the factors of the formula, from double precision, in one transfer that waits for nothing."""
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
    table = torch.tensor(rows, dtype=torch.float64).T.to(like.dtype)
    return (table.pin_memory() if like.is_cuda else table).to(like.device, non_blocking=True)
