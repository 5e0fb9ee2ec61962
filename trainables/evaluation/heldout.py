"""Score a model on held-out areas: the loss of each item, and its generated answer where wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from trainables.config.data_sections import HeldoutConfig
from trainables.data.dataset import TokenizedSet, to_device
from trainables.data.samples import Item
from trainables.evaluation.generation import Answer, answer_text, end_tokens, evaluation_mode, greedy_answers
from trainables.evaluation.objective import ALWAYS_SCORED
from trainables.evaluation.scorers import ScorerFunction, exact_match, token_f1
from trainables.models.forward_plan import hugging_face_model
from trainables.models.token_losses import token_losses_and_hits
from trainables.optim.workers import SOLO, World
from trainables.reliability import activity, watchdog

Summary = dict[str, Any]


@dataclass(frozen=True)
class ItemScore:
    """A model's score on one held-out item.

    Attributes:
        area: Name of the area.
        id: The item's id.
        nll: Mean loss of the response's tokens, in nats a token; not finite where the model's output is not.
        tokens: Number of the response's tokens, with the end-of-turn token.
        answer: The greedy answer; None where none was generated, and then so are the two scores.
        exact_match: 0 or 1, after SQuAD's normalization.
        token_f1: 0 to 1, after SQuAD's normalization.
        scores: The area's other scorers, by name; empty without an answer.
        cut: Whether the answer had not ended after the area's `max_new_tokens`; None without an answer.
    """

    area: str
    id: str
    nll: float
    tokens: int
    answer: str | None = None
    exact_match: float | None = None
    token_f1: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    cut: bool | None = None


def score_area(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    items: TokenizedSet,
    name: str,
    heldout: HeldoutConfig,
    scorers: Mapping[str, ScorerFunction],
    *,
    with_answers: bool,
    world: World = SOLO,
) -> list[ItemScore]:
    """Score a model on every item of an area. Collective.

    The model runs in evaluation mode and comes back in its former mode.

    Args:
        model: The model from `Base.prepare`.
        tokenizer: The model's.
        items: The area's tokenized items.
        name: The area's name.
        heldout: The held-out section, with the area's settings and the batch sizes.
        scorers: The area's scorers by name, from `load_scorers`.
        with_answers: Whether greedy answers are generated and scored.
        world: The workers, who share the items out; all get all scores.

    Returns:
        One score for each item, in the set's order.
    """
    rows = share_by_length(items.lengths, world)

    def own_scores() -> list[ItemScore]:
        answers: list[Answer | None] = [None] * len(rows)
        with evaluation_mode(model):
            losses = item_losses(model, items, heldout.batch_tokens, rows)
            if with_answers:
                longest = heldout.areas[name].max_new_tokens
                answers = _answers(model, tokenizer, items, rows, losses, longest, heldout.answer_batch_size)
        return [
            _item_score(name, items.item(index), loss, answer, scorers)
            for index, loss, answer in zip(rows.tolist(), losses, answers, strict=True)
        ]

    found: list[ItemScore | None] = [None] * len(items)
    for rank, scores in enumerate(world.together(own_scores)):
        for index, score in zip(share_by_length(items.lengths, world, rank), scores, strict=True):
            found[index] = score
    return [score for score in found if score is not None]


def share_by_length(lengths: np.ndarray, world: World, rank: int | None = None) -> np.ndarray:
    """A worker's rows of a set, this one's by default, in order of length.

    Strided, so that every worker gets long and short rows.
    """
    return np.argsort(lengths, kind="stable")[world.rank if rank is None else rank :: world.size]


class ItemLoss(NamedTuple):
    """A model's loss on one item."""

    nll: float  # mean over the label tokens, in nats a token
    tokens: int  # label tokens
    is_greedy: bool  # whether each label is the model's most likely token, given the tokens before


def item_losses(
    model: nn.Module, items: TokenizedSet, batch_tokens: int, rows: np.ndarray | None = None
) -> list[ItemLoss]:
    """Score items by the loss of their responses. Batching changes the losses by rounding only.

    Args:
        model: The model from `Base.prepare`, in evaluation mode.
        items: The tokenized items.
        batch_tokens: Most tokens scored at once; a longer item is a batch of its own.
        rows: Items to score; None for all.

    Returns:
        One loss for each row, in the rows' order.
    """
    rows = np.arange(len(items)) if rows is None else rows
    device = next(model.parameters()).device
    # float64: sums in any order, of any batches, agree beyond the digits that are recorded.
    sums = torch.zeros(len(items), dtype=torch.float64, device=device)
    hits = torch.zeros(len(items), dtype=torch.int64, device=device)
    tokens = np.zeros(len(items), dtype=np.int64)
    done = 0
    with torch.no_grad():
        # By length: a model that needs padding then gets little of it.
        by_length = rows[np.argsort(items.lengths[rows], kind="stable")]
        for indices in length_batches(by_length, items.lengths, batch_tokens):
            batch = items.batch(indices)
            tokens[indices] = np.bincount(batch.label_item.numpy(), minlength=len(batch))
            nll, hit = token_losses_and_hits(model, batch.to(device))  # (labels,) each
            item = to_device(torch.from_numpy(indices)[batch.label_item], device)  # (labels,)
            sums.index_add_(0, item, nll.double())
            hits.index_add_(0, item, hit.long())
            watchdog.beat()
            done += len(indices)
            activity.report("scoring", done, len(rows))
    found = list(zip(sums.tolist(), tokens.tolist(), hits.tolist(), strict=True))
    return [ItemLoss(total / count, count, hit == count) for total, count, hit in (found[row] for row in rows)]


def length_batches(rows: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Split rows of ascending length into batches that fit into `batch_tokens` padded, each of one row at least."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or (end + 1 - start) * lengths[rows[end]] > batch_tokens:
            yield rows[start:end]
            start = end


def summarize(scores: Sequence[ItemScore]) -> Summary:
    """Average an area's scores over its items.

    Args:
        scores: At least one, all with answers or all without.

    Returns:
        `nll` (mean over the items of their mean loss per token, in nats), `exact_match` and `token_f1` (None without
        answers), the mean of each further scorer by name, `cut_answers` (the number of answers that had not ended
        after `max_new_tokens`; None without answers), and `items`, their number.
    """
    return {
        "nll": _mean([score.nll for score in scores]),
        "exact_match": _mean([score.exact_match for score in scores]),
        "token_f1": _mean([score.token_f1 for score in scores]),
        **{name: _mean([score.scores[name] for score in scores]) for name in scores[0].scores},
        "cut_answers": None if None in (cut := [score.cut for score in scores]) else cut.count(True),
        "items": len(scores),
    }


def _answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    items: TokenizedSet,
    rows: np.ndarray,
    losses: Sequence[ItemLoss],
    max_new_tokens: int,
    batch_size: int,
) -> list[Answer | None]:
    """Greedy answers, generated only where the losses don't determine them; None for plain text, which asks nothing."""
    ends = set(end_tokens(hugging_face_model(model), tokenizer, items.label_ends))
    # Where every token of the response, its end token too, is the likeliest given those before, the response is what
    # greedy decoding would write: one forward pass instead of one per token.
    answers: dict[int, Answer | None] = dict.fromkeys(rows.tolist())
    remaining = []
    for index, loss in zip(rows.tolist(), losses, strict=True):
        if len(items.prompt_ids(index)) == 0:
            continue
        response = items.response_ids(index).tolist()
        if loss.is_greedy and len(response) <= max_new_tokens and response[-1] in ends:
            answers[index] = Answer(answer_text(tokenizer, response, ends, items.answer_mark(index)), cut=False)
        else:
            remaining.append(index)
    if remaining:
        written = greedy_answers(
            model,
            tokenizer,
            [items.prompt_ids(index) for index in remaining],
            max_new_tokens,
            batch_size,
            items.label_ends,
            [items.answer_mark(index) for index in remaining],
        )
        for index, answer in zip(remaining, written, strict=True):
            answers[index] = answer
    return list(answers.values())


def _item_score(
    area: str, item: Item, loss: ItemLoss, answer: Answer | None, scorers: Mapping[str, ScorerFunction]
) -> ItemScore:
    nll, tokens, _ = loss
    watchdog.beat()  # a user's own scorer may be slow
    if answer is None:
        return ItemScore(area, item.id, nll, tokens)
    return ItemScore(
        area=area,
        id=item.id,
        nll=nll,
        tokens=tokens,
        answer=answer.text,
        exact_match=exact_match(answer.text, item.response),
        token_f1=token_f1(answer.text, item.response),
        cut=answer.cut,
        scores={name: scorer(answer.text, item) for name, scorer in scorers.items() if name not in ALWAYS_SCORED},
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None unless every item has a value."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
