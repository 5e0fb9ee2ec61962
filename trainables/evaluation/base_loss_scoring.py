"""The base model's loss on every training sample, computed on a lane and shared out over its workers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from trainables.data.dataset import TokenizedSet
from trainables.models.token_losses import token_losses
from trainables.optim.workers import World
from trainables.reliability import watchdog


def compute(model: nn.Module, data: TokenizedSet, world: World, batch_tokens: int) -> dict[str, float]:
    """Scores the untouched model on every sample; the workers share the samples out, and all get all losses.

    Args:
        model: `Base.untouched()`.
        data: The training set.
        world: The workers, who call this together.
        batch_tokens: Most tokens scored at once; a longer sample is a batch of its own.

    Returns:
        Mean loss of each sample's label tokens by id, in nats a token.
    """
    # By length, so that a batch needs little padding; every worker gets long and short ones.
    own = np.argsort(data.lengths, kind="stable")[world.rank :: world.size]
    nll = np.empty(len(data))
    for rows, values in world.gather(_losses(model, data, own, batch_tokens)):
        nll[rows] = values
    return dict(zip(data.ids, nll.tolist(), strict=True))


def _losses(model: nn.Module, data: TokenizedSet, rows: np.ndarray, batch_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples in ascending order of length, and the mean loss of each."""
    device = next(model.parameters()).device
    means = []
    with torch.no_grad():
        for indices in _batches(rows, data.lengths, batch_tokens):
            batch = data.batch(indices).to(device)
            sums = torch.zeros(len(batch), dtype=torch.float64, device=device)
            sums.index_add_(0, batch.label_item, token_losses(model, batch).double())
            means.append(sums / batch.label_item.bincount(minlength=len(batch)))
            watchdog.beat()
    return rows, torch.cat(means).cpu().numpy() if means else np.empty(0)


def _batches(rows: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """As many samples at a time as fit into `batch_tokens` when padded to the longest, and always one."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or (end + 1 - start) * lengths[rows[end]] > batch_tokens:
            yield rows[start:end]
            start = end
