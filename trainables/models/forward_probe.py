"""Tries a loaded model's short cuts on a few tokens, against its plain forward pass, and keeps those that agree."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from transformers import PreTrainedModel

from trainables.data.dataset import Batch, TokenSequence, collate
from trainables.models.flat_attention import PADDING_FREE, longest_flat
from trainables.models.forward_plan import ForwardPlan
from trainables.models.token_losses import label_logits

logger = logging.getLogger(__name__)

LENGTHS = (5, 2, 9)
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Allowed error of the logits (L2, relative), by the type that they are computed in: some hundred times its rounding,
and a small part of what a token that sees another sequence, or a scale behind the output head left out, makes."""


def choose_plan(model: PreTrainedModel, autocast: torch.dtype | None, pad_id: int) -> ForwardPlan:
    """Finds out whether a model can take flat rows, and its output head hidden states at labels only.

    The plan is attached to the model and, if it allows flat rows, the model's attention is set to the padding-free one.
    What a model cannot do is said in the log.

    Args:
        model: In evaluation mode.
        autocast: Type in which matrix products will be computed; None for the weights' own.
        pad_id: Token for padding.
    """
    batch = probe_batch(model.config.get_text_config().vocab_size).to(next(model.parameters()).device)
    plan = ForwardPlan(autocast=autocast, pad_id=pad_id)
    plain = _logits(model, batch, plan)
    at_labels = replace(plan, head_at_labels=True)
    if model.get_output_embeddings() is not None and _agree(_logits(model, batch, at_labels), plain, autocast):
        plan = at_labels
    else:
        logger.warning("%s computes logits at every token: its output head cannot be split off", type(model).__name__)
    flat = replace(plan, longest_flat=longest_flat(model))
    if flat.longest_flat >= max(LENGTHS):
        own = model.config._attn_implementation
        model.set_attn_implementation(PADDING_FREE)
        if _agree(_logits(model, batch, flat), plain, autocast):
            plan = flat
        else:
            model.set_attn_implementation(own)
            logger.warning("%s trains on padded batches: its logits differ in flat rows", type(model).__name__)
    plan.attach(model)
    return plan


def probe_batch(vocabulary: int) -> Batch:
    """A few short sequences of seeded random tokens, each predicted from its second token on."""
    random = np.random.Generator(np.random.PCG64(0))
    tokens = [random.integers(0, vocabulary, length).astype(np.int32) for length in LENGTHS]
    return collate([TokenSequence(str(i), ids, np.arange(len(ids)) > 0) for i, ids in enumerate(tokens)])


def _logits(model: PreTrainedModel, batch: Batch, plan: ForwardPlan) -> torch.Tensor:
    with torch.no_grad(), plan.autocasting(batch.input_ids.device):
        return label_logits(model, batch, plan)


def _agree(found: torch.Tensor, plain: torch.Tensor, autocast: torch.dtype | None) -> bool:
    tolerance = TOLERANCES[autocast or torch.float32]
    return found.shape == plain.shape and bool((found - plain).float().norm() <= tolerance * plain.float().norm())
