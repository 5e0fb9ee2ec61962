"""Batches of prompts to answer at once, limited by the memory of their keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Of the keys and values of all prompts answered at once; ours. A number and no share of what is free: the same batches,
# and so the same rounding, on every device and beside any training state.
CACHE_BYTES = 4 << 30


def cache_bytes_per_token(config: Any, bytes_per_number: int) -> int:
    """Bytes of keys and values that a token leaves in all layers, at most; 0 for a model without attention.

    Args:
        config: A model's text config of `transformers`.
        bytes_per_number: Of the type that they are kept in.
    """
    queries = getattr(config, "num_attention_heads", None)
    if not queries:
        return 0
    heads = getattr(config, "num_key_value_heads", None) or queries
    size = getattr(config, "head_dim", None) or config.hidden_size // queries
    return int(2 * config.num_hidden_layers * heads * size * bytes_per_number)


def prompt_batches(
    lengths: Sequence[int], max_new_tokens: int, batch_size: int, bytes_per_token: int
) -> list[list[int]]:
    """Split prompts into batches whose keys and values, padded, fit into `CACHE_BYTES`; each has one prompt at least.

    Args:
        lengths: Tokens of each prompt.
        max_new_tokens: Longest answer.
        batch_size: Most prompts of a batch.
        bytes_per_token: From `cache_bytes_per_token`.

    Returns:
        Places of the prompts, the longest first: if memory suffices for the first batch, it does for all.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        batch = batches[-1] if batches else []
        each = (lengths[batch[0]] + max_new_tokens) * bytes_per_token if batch else 0
        if batch and len(batch) < batch_size and (len(batch) + 1) * each <= CACHE_BYTES:
            batch.append(place)
        else:
            batches.append([place])
    return batches


def halved(batches: Sequence[list[int]]) -> list[list[int]]:
    """Each batch in two parts, in order; batches of one prompt stay as they are."""
    parts = [(batch[: (len(batch) + 1) // 2], batch[(len(batch) + 1) // 2 :]) for batch in batches]
    return [part for pair in parts for part in pair if part]
