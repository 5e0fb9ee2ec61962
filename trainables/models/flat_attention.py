"""Padding-free attention: sequences laid end to end in one row, each attending to itself only.

Registered with transformers as an attention implementation. Calls without `cu_seq_lens_q` (padded batches, generation)
fall through to transformers' SDPA attention.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from inspect import signature
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PADDING_FREE = "padding_free"  # name in transformers: `model.set_attn_implementation(PADDING_FREE)`

# The longest row that is cast to fp32 on CPUs. torch 2.13's bf16 backward pass is slower there on short rows than a
# cast to fp32 and back. Measured with 9 heads of 64 on one core, forward and backward: 2.8 (bf16) against 1.1 ms (fp32)
# at 80 tokens, 5.7 against 3.8 at 190, 14.5 against 18.6 at 512. The limit lies between the last two.
WIDENED_TOKENS = 256

# Torch 2.13 wants to be told that heads share keys; earlier releases, without the argument, let them.
TOLD_OF_SHARED_KEYS = "enable_gqa" in signature(varlen_attn).parameters

KNOWN_LAYERS = {"full_attention", "sliding_attention"}


def longest_flat(model: PreTrainedModel) -> int:
    """The longest sequence that a model can take in flat rows; 0 if it cannot take any."""
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ())
    # Gemma 2 caps its scores, Falcon and MPT compute attention themselves, other layer kinds mix tokens across
    # sequences: none of them can take flat rows.
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    if not model._supports_attention_backend or capped or not layers <= KNOWN_LAYERS:
        return 0
    # A sliding window changes nothing for sequences that fit into it.
    window = getattr(config, "sliding_window", None)
    if window is None or (layers and "sliding_attention" not in layers):
        return sys.maxsize
    return int(window)


def padding_free_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sequence of a flat row.

    Args:
        module: The attention layer.
        query: (1, heads, T, head size).
        key: (1, key heads, T, head size); `heads` is a multiple of `key heads`.
        value: As `key`.
        attention_mask: Ignored for a flat row.
        scaling: Factor of the scores; None for 1 / sqrt(head size).
        dropout: Dropout probability of the attention weights.
        cu_seq_lens_q: (B + 1,) int32 starts of the sequences, and T; None for an ordinary batch.
        max_length_q: The longest sequence.
        **kwargs: Further arguments of the model's attention call.

    Returns:
        (1, T, heads, head size) and, in place of attention weights, None.
    """
    if cu_seq_lens_q is None or max_length_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    query, key, value = _in_autocast_type(query, key, value)
    if dropout == 0.0 and _has_varlen_kernel(query):
        return _varlen(query, key, value, scaling, cu_seq_lens_q, max_length_q), None
    return _one_by_one(query, key, value, scaling, dropout, cu_seq_lens_q), None


def _in_autocast_type(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    # Rotary embeddings turn bf16 projections of fp32 weights into fp32 queries and keys. Autocast casts the inputs of
    # torch's own attention; the variable-length kernel is called directly, and there is none for fp32.
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    to = torch.get_autocast_dtype(device)
    return tuple(tensor.to(to) if tensor.dtype == torch.float32 else tensor for tensor in tensors)


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    cu_seqlens: torch.Tensor,
) -> torch.Tensor:
    lengths = cu_seqlens.diff().tolist()
    rows = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    shared_keys = query.shape[1] != key.shape[1]
    # The fallback: one SDPA call a sequence. Sequences never see each other, so no mask is built.
    outputs = []
    for row in rows:
        widens = _is_widened(row[0])
        q, k, v = (tensor.float() for tensor in row) if widens else row
        # Autocast would cast the widened tensors back to bf16.
        with torch.autocast(query.device.type, enabled=False) if widens else nullcontext():
            output = functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=shared_keys
            )
        outputs.append(output.to(query.dtype).transpose(1, 2))
    return torch.cat(outputs, dim=1)


def _is_widened(query: torch.Tensor) -> bool:
    is_bf16_on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
    return is_bf16_on_cpu and query.requires_grad and query.shape[2] <= WIDENED_TOKENS


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    cu_seqlens: torch.Tensor,
    max_length: int,
) -> torch.Tensor:
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, heads, head size)
    shared: Any = {"enable_gqa": q.shape[1] != k.shape[1]} if TOLD_OF_SHARED_KEYS else {}
    output = varlen_attn(
        q,
        k,
        v,
        cu_seqlens,
        cu_seqlens,
        max_length,
        max_length,
        scale=scaling,
        window_size=(-1, 0),  # causal
        **shared,
    )
    assert isinstance(output, torch.Tensor)  # a tuple only where log-sum-exps were asked for
    return output[None]


def _has_varlen_kernel(query: torch.Tensor) -> bool:
    # The limits of FlashAttention 2, which `varlen_attn` calls.
    head_size = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and head_size % 8 == 0
        and head_size <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


AttentionInterface.register(PADDING_FREE, padding_free_attention)
AttentionMaskInterface.register(PADDING_FREE, sdpa_mask)
