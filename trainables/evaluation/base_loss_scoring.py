"""Compute the base model's loss on every training sample, shared out over a lane's workers."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from trainables.data.dataset import TokenizedSet, to_device
from trainables.evaluation.heldout import length_batches, share_by_length
from trainables.models.token_losses import item_sums, token_losses
from trainables.optim.workers import World
from trainables.reliability import watchdog


def compute(model: nn.Module, data: TokenizedSet, world: World, batch_tokens: int) -> dict[str, float]:
    """Score the untouched model on every sample. Collective: all workers get all losses.

    Args:
        model: `Base.untouched()`.
        data: The training set.
        world: The workers, who share the samples out.
        batch_tokens: Most tokens scored at once; a longer sample is a batch of its own.

    Returns:
        Mean loss of each sample's label tokens by id, in nats a token.
    """
    own = share_by_length(data.lengths, world)
    nll = np.empty(len(data))
    for rows, values in world.together(lambda: _losses(model, data, own, batch_tokens)):
        nll[rows] = values
    return dict(zip(data.ids, nll.tolist(), strict=True))


def _losses(model: nn.Module, data: TokenizedSet, rows: np.ndarray, batch_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """`rows`, and the mean loss of each."""
    device = next(model.parameters()).device
    means = []
    with torch.no_grad():
        for indices in length_batches(rows, data.lengths, batch_tokens):
            batch = data.batch(indices)
            counts = batch.label_item.bincount(minlength=len(batch))  # on the host: a GPU would be waited for
            batch = batch.to(device)
            means.append(item_sums(token_losses(model, batch), batch) / to_device(counts, device))  # (samples,)
            watchdog.beat()
    return rows, torch.cat(means).cpu().numpy() if means else np.empty(0)
