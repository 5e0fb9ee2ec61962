"""Scores of a model on held-out areas: each item's own loss, and its answer where answers are asked for.

Every score is kept by item, so that two checkpoints can be compared item by item; the means are taken at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from trainables.config.sections import AreaConfig
from trainables.data.dataset import TokenizedSet
from trainables.data.samples import Item
from trainables.evaluation.generation import end_tokens, greedy_answers
from trainables.evaluation.scorers import ScorerFunction, exact_match, token_f1
from trainables.models.forward_plan import hugging_face_model
from trainables.models.token_losses import token_losses_and_hits
from trainables.reliability import watchdog

ALWAYS_SCORED = ("exact_match", "token_f1")

Summary = dict[str, Any]


@dataclass(frozen=True)
class ItemScore:
    """What a model made of one held-out item.

    Attributes:
        area: Name of the area.
        id: The item's id.
        nll: Mean loss of the response's tokens, in nats a token; not finite where the model's output is not.
        tokens: Number of the response's tokens, the end-of-turn token among them.
        answer: The greedy answer; None where none was generated, and then so are the two scores.
        exact_match: 0 or 1, after SQuAD's normalisation.
        token_f1: 0 to 1, after SQuAD's normalisation.
        scores: The area's other scorers, by name; empty where no answer was generated.
    """

    area: str
    id: str
    nll: float
    tokens: int
    answer: str | None = None
    exact_match: float | None = None
    token_f1: float | None = None
    scores: dict[str, float] = field(default_factory=dict)


def score_area(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    items: TokenizedSet,
    name: str,
    area: AreaConfig,
    scorers: Mapping[str, ScorerFunction],
    *,
    with_answers: bool,
    batch_tokens: int,
    answer_batch_size: int,
) -> list[ItemScore]:
    """Scores a model on every item of an area.

    The model is put in evaluation mode and given back in the mode it came in.

    Args:
        model: What `Base.prepare` gave.
        tokenizer: The model's.
        items: The area's tokenized items.
        name: The area's name.
        area: The area's settings; `max_new_tokens` limits the answers.
        scorers: The area's scorers by name, as `load_scorers` gives them.
        with_answers: Whether greedy answers are generated and scored.
        batch_tokens: Most tokens scored at once; a longer item is a batch of its own.
        answer_batch_size: Answers generated at once.

    Returns:
        One score for each item, in the set's order.
    """
    answers: list[str | None] = [None] * len(items)
    with _evaluating(model):
        losses = item_losses(model, items, batch_tokens)
        if with_answers:
            answers[:] = _answers(model, tokenizer, items, losses, area.max_new_tokens, answer_batch_size)
    return [
        _item_score(name, items.item(index), loss, answer, scorers)
        for index, (loss, answer) in enumerate(zip(losses, answers, strict=True))
    ]


class ItemLoss(NamedTuple):
    """A model's loss on one item.

    Attributes:
        nll: Mean over the label tokens, in nats a token.
        tokens: Label tokens.
        foretold: Whether each of them is the token that the model holds for the likeliest, given those before.
    """

    nll: float
    tokens: int
    foretold: bool


def item_losses(model: nn.Module, items: TokenizedSet, batch_tokens: int) -> list[ItemLoss]:
    """Each item's loss, in the set's order.

    Items are batched by length, so that a model that needs padding gets little of it. The losses don't depend on the
    batches beyond rounding.
    """
    device = next(model.parameters()).device
    sums = torch.zeros(len(items), dtype=torch.float64, device=device)
    hits = torch.zeros(len(items), dtype=torch.int64, device=device)
    tokens = np.zeros(len(items), dtype=np.int64)
    with torch.no_grad():
        for indices in _batches(items.lengths, batch_tokens):
            batch = items.batch(indices)
            tokens[indices] = np.bincount(batch.label_item.numpy(), minlength=len(batch))
            nll, hit = token_losses_and_hits(model, batch.to(device))  # (labels,) each
            item = torch.from_numpy(indices)[batch.label_item].to(device)  # (labels,)
            sums.index_add_(0, item, nll.double())
            hits.index_add_(0, item, hit.long())
            watchdog.beat()
    counts = zip(sums.tolist(), tokens.tolist(), hits.tolist(), strict=True)
    return [ItemLoss(total / count, count, hit == count) for total, count, hit in counts]


def summarize(scores: Sequence[ItemScore]) -> Summary:
    """An area's means over its items.

    Args:
        scores: At least one, all with answers or all without.

    Returns:
        `nll` (mean over the items of their mean loss per token, in nats), `exact_match` and `token_f1` (None without
        answers), the mean of each further scorer by name, and `items`, their number.
    """
    return {
        "nll": _mean([score.nll for score in scores]),
        "exact_match": _mean([score.exact_match for score in scores]),
        "token_f1": _mean([score.token_f1 for score in scores]),
        **{name: _mean([score.scores[name] for score in scores]) for name in scores[0].scores},
        "items": len(scores),
    }


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; after it the mode that was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    items: TokenizedSet,
    losses: Sequence[ItemLoss],
    max_new_tokens: int,
    batch_size: int,
) -> list[str]:
    """Greedy answers, generated only where the losses don't tell them already.

    Where every token of the response, its end token too, is the likeliest given those before it, the response is what
    greedy decoding would write.
    """
    ends = set(end_tokens(hugging_face_model(model), tokenizer))
    answers: dict[int, str] = {}
    for index, loss in enumerate(losses):
        response = items.input_ids(index)[len(items.prompt_ids(index)) :]
        response = response[: int(np.flatnonzero(items.label_mask(index)[-len(response) :])[-1]) + 1]
        if loss.foretold and len(response) <= max_new_tokens and int(response[-1]) in ends:
            answers[index] = str(tokenizer.decode(response, skip_special_tokens=True)).strip()
    open_ones = [index for index in range(len(items)) if index not in answers]
    if open_ones:
        prompts = [items.prompt_ids(index) for index in open_ones]
        texts = greedy_answers(model, tokenizer, prompts, max_new_tokens, batch_size)
        answers.update(zip(open_ones, texts, strict=True))
    return [answers[index] for index in range(len(items))]


def _item_score(
    area: str, item: Item, loss: ItemLoss, answer: str | None, scorers: Mapping[str, ScorerFunction]
) -> ItemScore:
    nll, tokens, _ = loss
    watchdog.beat()  # a scorer of the user's may take its time with each item
    if answer is None:
        return ItemScore(area, item.id, nll, tokens)
    return ItemScore(
        area=area,
        id=item.id,
        nll=nll,
        tokens=tokens,
        answer=answer,
        exact_match=exact_match(answer, item.response),
        token_f1=token_f1(answer, item.response),
        scores={name: scorer(answer, item) for name, scorer in scorers.items() if name not in ALWAYS_SCORED},
    )


def _batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Items by ascending length, as many at a time as fit into `batch_tokens` when padded to the longest."""
    batch: list[int] = []
    for index in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * lengths[index] > batch_tokens:
            yield np.array(batch)
            batch = []
        batch.append(index)
    yield np.array(batch)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None unless every item has a value."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
