"""Compare a loaded model's shortcuts with its plain forward pass on a few tokens, and keep those that agree."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from transformers import PreTrainedModel

from trainables.data.dataset import Batch, TokenSequence, collate
from trainables.models.flat_attention import PADDING_FREE, longest_flat
from trainables.models.forward_plan import ForwardPlan
from trainables.models.token_losses import head_logits, label_hidden, label_logits

logger = logging.getLogger(__name__)

LENGTHS = (5, 2, 9)  # unequal, so that a wrong boundary or position shows in the logits
# Allowed relative L2 error of the logits by compute type: some hundred times its rounding error. A token that sees
# another sequence, or a skipped scale behind the output head, causes an error many times larger.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


def choose_plan(model: PreTrainedModel, autocast: torch.dtype | None, pad_id: int) -> ForwardPlan:
    """Find out whether a model can take flat rows, and its output head hidden states at labels only.

    Attaches the plan to the model and, where it allows flat rows, switches the model to padding-free attention.

    Args:
        model: In evaluation mode.
        autocast: Type in which matrix products will be computed; None for the weights' own.
        pad_id: Padding token.
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
    if plan.head_at_labels:
        if _agree(_logits_of_parts(model, batch, plan), plain, autocast):
            plan = replace(plan, head_in_chunks=True)
        else:
            logger.warning("%s computes all labels' logits at once: its head cannot run alone", type(model).__name__)
    plan.attach(model)
    return plan


def probe_batch(vocabulary: int) -> Batch:
    """A few short sequences of seeded random tokens; every token but the first is a label."""
    random = np.random.Generator(np.random.PCG64(0))
    tokens = [random.integers(0, vocabulary, length).astype(np.int32) for length in LENGTHS]
    return collate([TokenSequence(str(i), ids, np.arange(len(ids)) > 0) for i, ids in enumerate(tokens)])


def _logits(model: PreTrainedModel, batch: Batch, plan: ForwardPlan) -> torch.Tensor:
    with torch.no_grad(), plan.autocasting(batch.input_ids.device):
        return label_logits(model, batch, plan)


def _logits_of_parts(model: PreTrainedModel, batch: Batch, plan: ForwardPlan) -> torch.Tensor | None:
    if model.base_model is model:
        return None
    with torch.no_grad(), plan.autocasting(batch.input_ids.device):
        return head_logits(model, label_hidden(model, batch, plan))


def _agree(found: torch.Tensor | None, plain: torch.Tensor, autocast: torch.dtype | None) -> bool:
    if found is None or found.shape != plain.shape:
        return False
    tolerance = TOLERANCES[autocast or torch.float32]
    return bool((found - plain).float().norm() <= tolerance * plain.float().norm())
