"""Greedy answers, in batches, the same whatever a model's own generation settings say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from trainables.models.forward_plan import ForwardPlan, hugging_face_model
from trainables.reliability import watchdog


def greedy_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[np.ndarray],
    max_new_tokens: int,
    batch_size: int = 32,
) -> list[str]:
    """Continues each prompt with the likeliest token, again and again, until an end token.

    Sampling, penalties and the like in the model's generation settings are not used; of these only the end tokens are.
    The model is put in evaluation mode and given back in the mode it came in.

    Args:
        model: A causal LM of `transformers`, or a PEFT model around one.
        tokenizer: The model's.
        prompts: Token ids, (tokens,) each, at least one.
        max_new_tokens: Longest answer.
        batch_size: Prompts continued at once; prompts of like length go together.

    Returns:
        The answers' texts, in the prompts' order, without special tokens and without white space at either end.
    """
    inner = hugging_face_model(model)
    ends = end_tokens(inner, tokenizer)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, eos_token_id=ends, pad_token_id=pad_id
    )
    longest_first = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    answers = [""] * len(prompts)
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(prompts), batch_size):
            chosen = longest_first[start : start + batch_size]
            continued = _continue(inner, [prompts[index] for index in chosen], settings, pad_id)
            texts = tokenizer.batch_decode(continued, skip_special_tokens=True)
            for index, text in zip(chosen, texts, strict=True):
                answers[index] = text.strip()
            watchdog.beat()
    finally:
        model.train(was_training)
    return answers


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the tokenizer's and those in the model's generation settings.

    Raises:
        ValueError: There is none.
    """
    of_model = model.generation_config.eos_token_id if model.generation_config else None
    listed = of_model if isinstance(of_model, list) else [of_model]
    ends = sorted({token for token in (tokenizer.eos_token_id, *listed) if token is not None})
    if not ends:
        raise ValueError("neither the tokenizer nor the model's generation settings name an end token")
    return ends


def _continue(
    model: PreTrainedModel, prompts: list[np.ndarray], settings: GenerationConfig, pad_id: int
) -> torch.Tensor:
    """New tokens for a batch of prompts, (prompts, at most max_new_tokens)."""
    device = next(model.parameters()).device
    longest = max(len(prompt) for prompt in prompts)
    input_ids = torch.full((len(prompts), longest), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, longest - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
        attention_mask[row, longest - len(prompt) :] = 1
    with torch.no_grad(), ForwardPlan.of(model).autocasting(device), _only(model, settings):
        generate: Callable[..., torch.Tensor] = model.generate  # type: ignore[assignment]
        output = generate(input_ids.to(device), attention_mask=attention_mask.to(device), generation_config=settings)
    return output[:, longest:]


@contextmanager
def _only(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Takes the model's own settings away: `generate` would fill in from them what the given ones leave open."""
    own, model.generation_config = model.generation_config, settings
    try:
        yield
    finally:
        model.generation_config = own
