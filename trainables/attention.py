"""Padding-free attention: sequences laid end to end in one row, each attending to itself alone.

Registered with transformers' `AttentionInterface` under `FLAT`. The boundaries of the row are set before a forward pass
and stay until the next, because a backward pass with recomputation reads them too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import nn
from transformers import AttentionInterface, PreTrainedModel

FLAT = "flat_sequences"
PADDED = "sdpa"


class _Row:
    """Boundaries of the row at hand: on the device for CUDA's kernel, on the host for the loop on CPUs."""

    cu_seqlens: torch.Tensor | None = None
    ends: list[int] | None = None
    longest: int = 0


def set_boundaries(cu_seqlens: torch.Tensor, longest: int) -> None:
    """Says where the sequences of the next row begin and end.

    Args:
        cu_seqlens: (sequences + 1,) int32: 0 and the end of each sequence, on the model's device.
        longest: Length of the longest.
    """
    _Row.cu_seqlens, _Row.longest = cu_seqlens, longest
    _Row.ends = None if cu_seqlens.is_cuda else cu_seqlens.tolist()


def flat_attention(
    module: nn.Module,  # noqa: ARG001 - the interface's
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - the interface's; a flat row needs none
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sequence of a row.

    Args:
        module: The attention layer.
        query: (1, heads, tokens, head_dim).
        key: (1, key_value_heads, tokens, head_dim).
        value: Like `key`.
        attention_mask: Not used.
        scaling: Factor of the products; None for 1 / sqrt(head_dim).
        dropout: Probability on the attention weights; must be 0.

    Returns:
        (1, tokens, heads, head_dim), and no weights.
    """
    if dropout:
        raise ValueError(f"attention dropout must be 0, got {dropout}")
    if query.is_cuda:
        return _on_cuda(query, key, value, scaling), None
    assert _Row.ends is not None
    grouped = query.shape[1] != key.shape[1]
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, begin:end],
            key[:, :, begin:end],
            value[:, :, begin:end],
            is_causal=True,
            scale=scaling,
            enable_gqa=grouped,
        )
        for begin, end in zip(_Row.ends, _Row.ends[1:], strict=False)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _on_cuda(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    rows = [states[0].transpose(0, 1) for states in (query, key, value)]  # (tokens, heads, head_dim)
    grouped = query.shape[1] != key.shape[1]
    out = varlen_attn(
        *rows,
        _Row.cu_seqlens,
        _Row.cu_seqlens,
        _Row.longest,
        _Row.longest,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=grouped,
    )
    return out[None]


def supports_flat(model: PreTrainedModel, max_tokens: int) -> bool:
    """Whether a model gives the same in a flat row: it uses transformers' attention interface, causally and plainly.

    Args:
        model: Any causal language model of transformers.
        max_tokens: Longest sequence; a sliding window that is not shorter makes no difference.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    capped = getattr(config, "attn_logit_softcapping", None)
    dropout = getattr(config, "attention_dropout", 0.0)
    stateful = any(
        getattr(config, name, None) for name in ("layers_block_type", "linear_num_value_heads", "state_size")
    )
    if next(model.parameters()).is_cuda and next(model.parameters()).dtype == torch.float32:
        return False  # CUDA's kernel takes half precision only
    return bool(
        model._supports_attention_backend
        and not capped
        and not dropout
        and not stateful
        and (not window or window >= max_tokens)
    )


AttentionInterface.register(FLAT, flat_attention)
