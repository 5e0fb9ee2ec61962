"""The loss of every label token, with logits computed at label positions alone.

Logits for every position of a 49k vocabulary are most of a small model's memory; a response is a few tokens of many.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import nn

from trainables.attention import FLAT, set_boundaries
from trainables.data import Batch, pad


def token_losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Each label token's loss.

    Transformers' `logits_to_keep` picks the positions before the output head, so whatever a model does to its logits
    (a soft cap, a scale) is done here too.

    Args:
        model: A causal language model of transformers, bare or with adapters.
        batch: On the model's device.

    Returns:
        (labels,) float32: negative log-likelihoods in nats, in the batch's order.
    """
    flat = model.config._attn_implementation == FLAT
    logits = _flat_logits(model, batch) if flat else _padded_logits(model, batch)
    return F.cross_entropy(logits.float(), batch.labels, reduction="none")


def _flat_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """(labels, vocabulary) from one row of all sequences."""
    set_boundaries(batch.cu_seqlens, batch.max_length)
    out = model(
        input_ids=batch.input_ids[None],  # (1, tokens)
        position_ids=batch.position_ids[None],
        logits_to_keep=batch.label_positions,
        use_cache=False,
    )
    return out.logits[0]


def _padded_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """(labels, vocabulary) from one row a sequence."""
    pad_id = model.config.get_text_config().pad_token_id or 0
    input_ids, attention_mask, (rows, columns) = pad(batch, pad_id)
    kept, place = torch.unique(columns, return_inverse=True)
    out = model(input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=kept, use_cache=False)
    return out.logits[rows, place]
