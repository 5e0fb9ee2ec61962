"""Greedy answers in batches, independent of a model's own generation settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from trainables.data.dataset import to_device
from trainables.evaluation.answer_batches import cache_bytes_per_token, halved, prompt_batches
from trainables.models.forward_plan import ForwardPlan, hugging_face_model, padding_token
from trainables.models.forward_probe import answers_together
from trainables.reliability import activity, watchdog


class Answer(NamedTuple):
    """What a model wrote."""

    text: str  # as `answer_text` gives it
    cut: bool  # whether it had not ended after `max_new_tokens`, so that the text may be a part


def greedy_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[np.ndarray],
    max_new_tokens: int,
    batch_size: int = 32,
    label_ends: Iterable[int] = (),
    marks: Sequence[str | None] | None = None,
) -> list[Answer]:
    """Continue each prompt with the most likely tokens until an end token.

    The model runs in evaluation mode and comes back in its former mode.

    Args:
        model: A causal LM of `transformers`, or a PEFT model around one.
        tokenizer: The model's.
        prompts: Token ids, (tokens,) each, at least one.
        max_new_tokens: Longest answer.
        batch_size: Prompts continued at once, at most; fewer where their keys and values need much memory. Prompts of
            similar length go together.
        label_ends: Tokens that the responses end with: `TokenizedSet.label_ends`.
        marks: Text behind which each answer begins, as for `answer_text`; None for no marks.

    Returns:
        The answers in the prompts' order.
    """
    inner = hugging_face_model(model)
    ends = end_tokens(inner, tokenizer, label_ends)
    pad_id = padding_token(inner, tokenizer, ends[0])
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, eos_token_id=ends, pad_token_id=pad_id
    )
    each = cache_bytes_per_token(inner.config.get_text_config(), inner.dtype.itemsize)
    waiting = prompt_batches([len(prompt) for prompt in prompts], max_new_tokens, batch_size, each)
    answers = [Answer("", cut=False)] * len(prompts)
    with evaluation_mode(model):
        if batch_size > 1 and not answers_together(inner, pad_id):
            waiting = [[index] for batch in waiting for index in batch]
        while waiting:
            chosen = waiting[0]
            try:
                continued = _continue(inner, [prompts[index] for index in chosen], settings, pad_id)
            except torch.OutOfMemoryError:
                if len(chosen) == 1:
                    raise
                continued = None
            # Outside the handler, whose traceback keeps the failed batch's tensors alive.
            if continued is None:
                waiting = halved(waiting)
                continue
            del waiting[0]
            for index, tokens in zip(chosen, continued.tolist(), strict=True):
                text = answer_text(tokenizer, tokens, ends, marks[index] if marks else None)
                answers[index] = Answer(text, cut=set(ends).isdisjoint(tokens))
            watchdog.beat()
            activity.report("answering", len(prompts) - sum(map(len, waiting)), len(prompts))
    return answers


def answer_text(
    tokenizer: PreTrainedTokenizerBase, tokens: list[int], ends: Collection[int], mark: str | None = None
) -> str:
    """The text of an answer's tokens up to the first end token, stripped, without special tokens.

    Args:
        tokenizer: The model's.
        tokens: What the model wrote.
        ends: Tokens that end an answer.
        mark: Text between reasoning and answer; where the model wrote it, only what follows it counts. None for none.
    """
    stop = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    text = str(tokenizer.decode(tokens[:stop], skip_special_tokens=mark is None))
    if mark is not None:
        # The mark may be made of special tokens, which are therefore taken out only now.
        text = text.rpartition(mark)[2]
        for token in tokenizer.all_special_tokens:
            text = text.replace(token, "")
    return text.strip()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and afterwards back in its former mode."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, label_ends: Iterable[int]) -> list[int]:
    """Tokens that end an answer: those that labels end with, the tokenizer's and the model's generation settings'.

    Args:
        model: A causal LM of `transformers`.
        tokenizer: The model's.
        label_ends: Last tokens of labels. Words among them don't count: sweeps of version 0.1 may have such labels.

    Raises:
        ValueError: There is none.
    """
    of_model = model.generation_config.eos_token_id if model.generation_config else None
    listed = of_model if isinstance(of_model, list) else [of_model]
    taught = set(label_ends) & set(tokenizer.added_tokens_decoder)
    ends = sorted({token for token in (tokenizer.eos_token_id, *listed) if token is not None} | taught)
    if not ends:
        raise ValueError("neither labels nor the tokenizer nor the model's generation settings name an end token")
    return ends


def _continue(
    model: PreTrainedModel, prompts: list[np.ndarray], settings: GenerationConfig, pad_id: int
) -> torch.Tensor:
    """New tokens for a batch of prompts, (prompts, at most max_new_tokens)."""
    device = next(model.parameters()).device
    longest = max(len(prompt) for prompt in prompts)
    input_ids = torch.full((len(prompts), longest), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    # Padded on the left: the new tokens of all prompts then start at the same column.
    for row, prompt in enumerate(prompts):
        input_ids[row, longest - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
        attention_mask[row, longest - len(prompt) :] = 1
    with torch.no_grad(), ForwardPlan.of(model).autocasting(device), _replaced_settings(model, settings):
        generate: Callable[..., torch.Tensor] = model.generate  # type: ignore[assignment]
        mask = to_device(attention_mask, device)
        output = generate(to_device(input_ids, device), attention_mask=mask, generation_config=settings)
    return output[:, longest:]


@contextmanager
def _replaced_settings(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    # `generate` fills the gaps of the given settings (sampling, penalties) from the model's own: replace those.
    own, model.generation_config = model.generation_config, settings
    try:
        yield
    finally:
        model.generation_config = own
