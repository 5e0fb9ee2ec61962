"""Loss of each label token, with logits at labels only and, where the model allows it, without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainables.data.dataset import Batch, pad
from trainables.models.forward_plan import ForwardPlan, hugging_face_model


def token_losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood of each label token, computed as the model's `ForwardPlan` says.

    Args:
        model: A causal LM of `transformers`, or a PEFT model around one.
        batch: On the model's device.

    Returns:
        (L,) float32, in nats, in the order of `batch.labels`.
    """
    return functional.cross_entropy(_float_logits(model, batch), batch.labels, reduction="none")


def token_losses_and_hits(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of `token_losses`, and whether each label is the model's most likely token.

    Returns:
        (L,) float32 in nats, and (L,) bool.
    """
    logits = _float_logits(model, batch)
    return functional.cross_entropy(logits, batch.labels, reduction="none"), logits.argmax(-1) == batch.labels


def item_sums(losses: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum the (L,) label losses of each item: (items,) float64, on their device."""
    # float64: a GPU adds in any order, and only in double precision does the order leave no visible trace.
    sums = torch.zeros(len(batch), dtype=torch.float64, device=losses.device)
    return sums.index_add_(0, batch.label_item, losses.detach().double())


def _float_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    plan = ForwardPlan.of(model)
    with plan.autocasting(batch.input_ids.device):
        # Softmax and loss in fp32: a bf16 logit has only 8 bits of mantissa.
        return label_logits(model, batch, plan).float()


def label_logits(model: nn.Module, batch: Batch, plan: ForwardPlan) -> torch.Tensor:
    """The logits that predict each label: (L, vocabulary)."""
    if batch.max_length <= plan.longest_flat:
        inputs, places = _flat(batch), batch.label_positions
    else:
        inputs, places = _padded(batch, plan.pad_id)
    if not plan.head_at_labels:
        return model(**inputs, use_cache=False).logits.flatten(0, 1).index_select(0, places)

    def labels_only(_: nn.Module, hidden: tuple[torch.Tensor]) -> torch.Tensor:
        return hidden[0].flatten(0, 1).index_select(0, places)[None]  # (1, L, hidden)

    # A hook on the output head keeps the model's own forward, with any cap or scale on the logits after the head.
    with hugging_face_model(model).get_output_embeddings().register_forward_pre_hook(labels_only):
        return model(**inputs, use_cache=False).logits[0]


def _flat(batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": batch.input_ids[None],  # (1, T)
        "position_ids": batch.position_ids[None],
        # transformers takes a 4-D mask for finished, and so builds no T x T one. The attention never reads it.
        "attention_mask": torch.zeros(1, 1, 1, 1, device=batch.input_ids.device),
        "cu_seq_lens_q": batch.cu_seqlens,
        "cu_seq_lens_k": batch.cu_seqlens,
        "max_length_q": batch.max_length,
        "max_length_k": batch.max_length,
    }


def _padded(batch: Batch, pad_id: int) -> tuple[dict[str, Any], torch.Tensor]:
    input_ids, attention_mask, (rows, columns) = pad(batch, pad_id)  # (B, S)
    return {"input_ids": input_ids, "attention_mask": attention_mask}, rows * input_ids.shape[1] + columns
