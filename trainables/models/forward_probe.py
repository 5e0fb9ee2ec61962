"""Compare a loaded model's shortcuts with its plain forward pass on a few tokens, and keep those that agree."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from trainables.data.dataset import Batch, TokenSequence, collate
from trainables.errors import UserError
from trainables.models.flat_attention import PADDING_FREE, longest_flat
from trainables.models.forward_plan import ForwardPlan
from trainables.models.sharding.shards import is_sharded, whole_head
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

    Raises:
        UserError: The model's logits at a token depend on the tokens behind it.
    """
    batch = probe_batch(model.config.get_text_config().vocab_size).to(next(model.parameters()).device)
    plan = ForwardPlan(autocast=autocast, pad_id=pad_id)
    plain = _logits(model, batch, plan)
    if not _agree(_logits(model, _other_ends(batch), plan), plain, autocast):
        rule, remedy = "must be a causal LM", "name a decoder language model"
        raise UserError("model.name", rule, f"{type(model).__name__}, which sees the tokens to come", remedy)
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


def answers_together(model: PreTrainedModel, pad_id: int) -> bool:
    """Whether prompts of unequal length can be continued together: whether the model masks the padding before one.

    Args:
        model: In evaluation mode.
        pad_id: Padding token.
    """
    # Tried, because RWKV takes a mask and doesn't read it. The answer is kept beside the model.
    kept = vars(model)
    if "answers_together" not in kept:
        plan = ForwardPlan.of(model)
        starts = probe_batch(model.config.get_text_config().vocab_size).input_ids
        short, long = starts[5:7], starts[7:16]  # the second and the third sequence of `LENGTHS`
        mask = torch.ones(2, len(long), dtype=torch.long)
        mask[0, : -len(short)] = 0
        row = torch.full_like(long, pad_id)
        row[-len(short) :] = short
        alone = _next_logits(model, short[None], torch.ones_like(short)[None], plan)
        padded = _next_logits(model, torch.stack([row, long]), mask, plan)[:1]
        kept["answers_together"] = _agree(padded, alone, plan.autocast)
    return bool(kept["answers_together"])


def probe_batch(vocabulary: int) -> Batch:
    """A few short sequences of seeded random tokens; every token but the first is a label."""
    random = np.random.Generator(np.random.PCG64(0))
    tokens = [random.integers(0, vocabulary, length).astype(np.int32) for length in LENGTHS]
    return collate([TokenSequence(str(i), ids, np.arange(len(ids)) > 0) for i, ids in enumerate(tokens)])


def _logits(model: PreTrainedModel, batch: Batch, plan: ForwardPlan) -> torch.Tensor:
    with torch.no_grad(), plan.autocasting(batch.input_ids.device):
        return label_logits(model, batch, plan)


def _other_ends(batch: Batch) -> Batch:
    """The batch with another last token in each sequence, which no label is predicted from."""
    input_ids, last = batch.input_ids.clone(), batch.cu_seqlens[1:].long() - 1
    input_ids[last] = input_ids[last - 1]
    return replace(batch, input_ids=input_ids)


def _next_logits(
    model: PreTrainedModel, input_ids: torch.Tensor, mask: torch.Tensor, plan: ForwardPlan
) -> torch.Tensor:
    """Logits of the token behind each row, (rows, vocabulary), as generation computes them."""
    device = next(model.parameters()).device
    settings = GenerationConfig(
        max_new_tokens=1, do_sample=False, pad_token_id=plan.pad_id, output_logits=True, return_dict_in_generate=True
    )
    generate: Callable[..., Any] = model.generate  # type: ignore[assignment]
    with torch.no_grad(), plan.autocasting(device):
        done = generate(input_ids.to(device), attention_mask=mask.to(device), generation_config=settings)
    return done.logits[0]


def _logits_of_parts(model: PreTrainedModel, batch: Batch, plan: ForwardPlan) -> torch.Tensor | None:
    if model.base_model is model:
        return None
    weights = whole_head(model) if is_sharded(model) else []
    with torch.no_grad(), plan.autocasting(batch.input_ids.device):
        return head_logits(model, label_hidden(model, batch, plan), weights)


def _agree(found: torch.Tensor | None, plain: torch.Tensor, autocast: torch.dtype | None) -> bool:
    if found is None or found.shape != plain.shape:
        return False
    tolerance = TOLERANCES[autocast or torch.float32]
    return bool((found - plain).float().norm() <= tolerance * plain.float().norm())
