"""Loss of each label token, with logits at labels only and, where the model allows it, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPast

from trainables.data.dataset import Batch, pad
from trainables.models.forward_plan import ForwardPlan, hugging_face_model
from trainables.models.sharding.shards import is_sharded, whole_head

# Most logits at once, ours. One costs up to 12 bytes in training: 2 in 16 bits, 4 as a log-probability, and their
# gradients. So a chunk costs 1.6 GB, and has 883 labels of a vocabulary of 152k, enough for a large matrix product.
CHUNK_LOGITS = 2**27


class LabelResults(NamedTuple):
    """Results at each of a batch's L labels, in the order of `batch.labels`."""

    losses: torch.Tensor  # (L,) in nats; float32, or float64 of a model in double precision
    hits: torch.Tensor  # (L,) bool: whether the label is the model's most likely token; empty unless asked for


def token_losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood of each label token, computed as the model's `ForwardPlan` says.

    Args:
        model: A causal LM of `transformers`, or a PEFT model around one.
        batch: On the model's device.

    Returns:
        (L,) float32, or float64 of a model in double precision; in nats, in the order of `batch.labels`.
    """
    return _results(model, batch, with_hits=False).losses


def token_losses_and_hits(model: nn.Module, batch: Batch) -> LabelResults:
    """The losses of `token_losses`, and whether each label is the model's most likely token."""
    return _results(model, batch, with_hits=True)


def item_sums(losses: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum the (L,) label losses of each item: (items,) float64, on their device."""
    # float64: a GPU adds in any order, and only in double precision does the order leave no visible trace.
    sums = torch.zeros(len(batch), dtype=torch.float64, device=losses.device)
    return sums.index_add_(0, batch.label_item, losses.detach().double())


def label_logits(model: nn.Module, batch: Batch, plan: ForwardPlan) -> torch.Tensor:
    """The logits that predict each label: (L, vocabulary)."""
    inputs, places = _inputs(batch, plan)
    # The model inside a PEFT model: its layers carry the adapters, and the calls of it gather weights that are shared.
    model = hugging_face_model(model)
    if not plan.head_at_labels:
        return model(**inputs, use_cache=False).logits.flatten(0, 1).index_select(0, places)

    # A hook on the output head keeps the model's own forward, with any cap or scale on the logits after the head.
    pick = _AtLabels(places)
    with model.get_output_embeddings().register_forward_pre_hook(lambda _, hidden: pick(*hidden)):
        return model(**inputs, use_cache=False).logits[0]


def label_hidden(model: nn.Module, batch: Batch, plan: ForwardPlan) -> torch.Tensor:
    """The last hidden states that predict each label: (L, hidden)."""
    inputs, places = _inputs(batch, plan)
    whole = hugging_face_model(model)
    if is_sharded(model):
        # A call of the whole model, which gathers what belongs to no layer, with the picking in place of the head.
        head = whole.get_output_embeddings()
        whole.set_output_embeddings(_AtLabels(places))
        try:
            return whole(**inputs, use_cache=False).logits[0]
        finally:
            whole.set_output_embeddings(head)
    hidden = whole.base_model(**inputs, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1).index_select(0, places)


def head_logits(model: nn.Module, hidden: torch.Tensor, weights: Sequence[torch.Tensor] = ()) -> torch.Tensor:
    """The logits of last hidden states (L, hidden), with any cap or scale that the model applies: (L, vocabulary).

    Args:
        model: The model.
        hidden: From `label_hidden`.
        weights: From `whole_head`, of a model that workers share out: then without cap and scale.
    """
    if weights:
        return functional.linear(hidden, *weights)
    # The model's own forward with a body that gives these states: what comes after the head differs by family.
    whole = hugging_face_model(model)
    body, given = whole.base_model, _BodyOutput(last_hidden_state=hidden[None])
    vars(body)["forward"] = lambda *_, **__: given
    try:
        return whole(inputs_embeds=hidden[None], use_cache=False).logits[0]
    finally:
        del vars(body)["forward"]


class _AtLabels(nn.Module):
    """Picks the hidden states at labels, in place of an output head."""

    def __init__(self, places: torch.Tensor) -> None:
        super().__init__()
        self._places = places

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.flatten(0, 1)[None].index_select(1, self._places)  # (1, L, hidden), of its own memory


class _BodyOutput(BaseModelOutputWithPast):
    """What a model's body gives; a field that only some families have (router logits, a state) is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):  # Python's own questions, such as of copy
            raise AttributeError(name)


def _results(model: nn.Module, batch: Batch, *, with_hits: bool) -> LabelResults:
    plan = ForwardPlan.of(model)
    with plan.autocasting(batch.input_ids.device):
        size = max(1, CHUNK_LOGITS // hugging_face_model(model).config.get_text_config().vocab_size)
        # Of a shared head always, for gathering it is collective and workers have unequal numbers of labels.
        apart = plan.head_in_chunks and (batch.label_tokens > size or is_sharded(model))
        if not apart:
            return _read(label_logits(model, batch, plan), batch.labels, with_hits=with_hits)

        def of_chunk(hidden: torch.Tensor, labels: torch.Tensor, *weights: torch.Tensor) -> LabelResults:
            return _read(head_logits(model, hidden, weights), labels, with_hits=with_hits)

        hidden = label_hidden(model, batch, plan)
        weights = whole_head(hugging_face_model(model)) if is_sharded(model) else []
        chunks = [(*chunk, *weights) for chunk in zip(hidden.split(size), batch.labels.split(size), strict=True)]
        # The backward pass computes each of several chunks' logits again: those of all are never there at once.
        if torch.is_grad_enabled() and len(chunks) > 1:
            found = [
                checkpoint(of_chunk, *chunk, use_reentrant=False, preserve_rng_state=False)  # a head drops nothing
                for chunk in chunks
            ]
        else:
            found = [of_chunk(*chunk) for chunk in chunks]
        return LabelResults(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _read(logits: torch.Tensor, labels: torch.Tensor, *, with_hits: bool) -> LabelResults:
    # At least fp32, for a bf16 logit has only 8 bits of mantissa; double stays double.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    hits = logits.argmax(-1) == labels if with_hits else labels.new_empty(0, dtype=torch.bool)
    return LabelResults(functional.cross_entropy(logits, labels, reduction="none"), hits)


def _inputs(batch: Batch, plan: ForwardPlan) -> tuple[dict[str, Any], torch.Tensor]:
    """The model's inputs, and the place among their tokens of the hidden state that predicts each label, (L,)."""
    if batch.max_length <= plan.longest_flat:
        return _flat(batch), batch.label_positions
    return _padded(batch, plan.pad_id)


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
