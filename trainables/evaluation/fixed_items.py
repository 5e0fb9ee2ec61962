"""Score a model on samples that were not tokenized for it before: the items of a benchmark.

Tokens, losses, answers and scorers are those of a sweep's held-out areas. What differs: an item is never left out for
its length, and a plain text that the model reads in several windows is one item.
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn
from transformers import PreTrainedTokenizerBase

from trainables.config.data_sections import DataConfig, HeldoutConfig
from trainables.data.dataset import TokenizedSet
from trainables.data.samples import Sample, message_text
from trainables.data.tokenization import tokenize
from trainables.errors import UserError
from trainables.evaluation.heldout import ItemScore, score_area
from trainables.evaluation.scorers import load_scorers
from trainables.models.forward_plan import hugging_face_model
from trainables.models.meta_model import position_limit

TEXT_TOKENS = 1024  # longest window of a plain text; ours

_PART = re.compile(r" \(part \d+ of \d+\)$")  # as `tokenize` names the windows of a text


@dataclass(frozen=True)
class ItemResult:
    """A model's result on one item.

    Attributes:
        id: The item's id.
        group: Its cluster for resampling.
        nll: Mean loss of the learnt tokens, nats a token.
        tokens: Number of learnt tokens, end tokens included.
        bytes: UTF-8 bytes of the text that these tokens write, without end tokens. An answer's are the same for
            all tokenizers; of plain text the first token is none where the tokenizer begins with no token of its own.
        answer: The greedy answer; None for plain text, and then so are the scores.
        exact_match: 0 or 1.
        token_f1: 0 to 1.
        scores: By the area's other scorers.
    """

    id: str
    group: str
    nll: float
    tokens: int
    bytes: int
    answer: str | None
    exact_match: float | None
    token_f1: float | None
    scores: dict[str, float]


def score_samples(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample],
    name: str,
    heldout: HeldoutConfig,
    data: DataConfig,
) -> tuple[list[ItemResult], str]:
    """Score a model on the samples of an area, answers included.

    Args:
        model: From `trainables.models.base_model.Base`.
        tokenizer: The model's.
        samples: The area's samples.
        name: The area's name.
        heldout: The area's settings and the batch sizes.
        data: How samples are rendered (`template`, `template_args`, `train_on_template_text`).

    Returns:
        A result for each sample, in order, and a hash of the tokens and labels: where it is equal for two models, so
        are the tokens that they were scored on.

    Raises:
        UserError: A sample can't be rendered, or is longer than the model's positions.
    """
    longest = position_limit(hugging_face_model(model))[0] or sys.maxsize
    with TemporaryDirectory() as place:
        items = _tokenized(samples, tokenizer, data, longest, Path(place))
        scorers = load_scorers(heldout.areas[name].scorers, f"{name}.scorers")
        scores = score_area(model, tokenizer, items, name, heldout, scorers, with_answers=True)
        parts: dict[str, list[int]] = {}
        texts = {sample.id for sample in samples if sample.text is not None}
        for index, item_id in enumerate(items.ids):
            whole = _PART.sub("", item_id)
            parts.setdefault(whole if whole in texts else item_id, []).append(index)
        results = [_result(sample, tokenizer, items, parts[sample.id], scores) for sample in samples]
        return results, _tokens_hash(items)


def _result(
    sample: Sample,
    tokenizer: PreTrainedTokenizerBase,
    items: TokenizedSet,
    places: Sequence[int],
    scores: Sequence[ItemScore],
) -> ItemResult:
    found = [scores[index] for index in places]
    first, tokens = found[0], sum(score.tokens for score in found)
    return ItemResult(
        id=sample.id,
        group=items.group(places[0]),
        nll=math.fsum(score.nll * score.tokens for score in found) / tokens,
        tokens=tokens,
        bytes=_learnt_bytes(sample, tokenizer, items, places),
        answer=first.answer,
        exact_match=first.exact_match,
        token_f1=first.token_f1,
        scores=first.scores,
    )


def _tokenized(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase, data: DataConfig, longest: int, place: Path
) -> TokenizedSet:
    texts = [sample for sample in samples if sample.text is not None]
    asked = [sample for sample in samples if sample.text is None]
    paths = []
    for kind, chosen, most in (("asked", asked, longest), ("texts", texts, min(longest, TEXT_TOKENS))):
        if not chosen:
            continue
        path = place / f"{kind}.arrow"
        arguments = (most, path, data.template_args, data.train_on_template_text)
        done = tokenize(chosen, tokenizer, data.template, *arguments)
        if done.too_long:
            longer = done.too_long[0]
            rule = f"must fit into the model's {most} positions"
            raise UserError(f"item {longer.id}", rule, f"{longer.tokens} tokens", "score a model with more positions")
        paths.append(path)
    return TokenizedSet(*paths)


def _learnt_bytes(
    sample: Sample, tokenizer: PreTrainedTokenizerBase, items: TokenizedSet, places: Sequence[int]
) -> int:
    if sample.text is not None:
        # Without the first token, which nothing predicts unless a beginning-of-text token stands before it.
        learnt = (items.input_ids(index)[items.label_mask(index)] for index in places)
        return sum(len(str(tokenizer.decode(ids, skip_special_tokens=True)).encode()) for ids in learnt)
    turns = [turn for turn in sample.messages if turn["role"] == "assistant" and turn.get("weight") != 0]
    reasoning = [str(turn["reasoning_content"]) for turn in turns if turn.get("reasoning_content")]
    return sum(len(text.encode()) for text in [*map(message_text, turns), *reasoning])


def _tokens_hash(items: TokenizedSet) -> str:
    digest = hashlib.sha256()
    for index in range(len(items)):
        digest.update(items.input_ids(index).tobytes())
        digest.update(items.label_mask(index).tobytes())
    return digest.hexdigest()
