"""Greedy answers, many at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from trainables.attention import PADDED


def greedy_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[np.ndarray],
    max_new_tokens: int,
    batch_size: int = 32,
) -> list[str]:
    """The model's most likely continuation of each prompt, token by token.

    The model's own generation settings (temperature, penalties) are not read, but for its end tokens.

    Args:
        model: A causal language model of transformers, bare or with adapters, in evaluation mode.
        tokenizer: The model's.
        prompts: Token ids of each prompt, (tokens,).
        max_new_tokens: Longest answer in tokens.
        batch_size: Answers generated at once; of like length, so that little is padded.

    Returns:
        The texts, in the prompts' order, without special tokens and outer white space.
    """
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    config = _greedy(model, tokenizer, max_new_tokens)
    answers = [""] * len(prompts)
    implementation = model.config._attn_implementation
    model.set_attn_implementation(PADDED)
    try:
        for begin in range(0, len(order), batch_size):
            chosen = order[begin : begin + batch_size]
            for index, ids in zip(chosen, _continue(model, [prompts[i] for i in chosen], config), strict=True):
                answers[index] = tokenizer.decode(ids, skip_special_tokens=True).strip()
    finally:
        model.set_attn_implementation(implementation)
    return answers


def _greedy(model: nn.Module, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> GenerationConfig:
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    ends.discard(None)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
    return GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, eos_token_id=sorted(ends) or None, pad_token_id=pad
    )


def _continue(model: nn.Module, prompts: list[np.ndarray], config: GenerationConfig) -> list[list[int]]:
    """New token ids of each prompt, padded on the left so that all end together."""
    longest = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), longest), config.pad_token_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    device = next(model.parameters()).device
    with torch.no_grad():
        out = model.generate(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            generation_config=config,
        )
    return out[:, longest:].tolist()
