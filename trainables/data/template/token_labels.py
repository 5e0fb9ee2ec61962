"""Tokenize renderings, each as a whole, and carry their labels from characters over to tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from trainables.data.template.rendering import Rendering, Span, Tokenizer

# Part of a window that repeats the end of the one before, as context of its first labels; ours.
OVERLAP = 0.25


class LabeledTokens(NamedTuple):
    """Tokens of a rendering, or of a window of a long plain text.

    Attributes:
        input_ids: (tokens,) int32.
        label_mask: (tokens,) bool; True where a token is learnt. The first never is: nothing predicts it.
        prompt_length: Tokens before the last label; 0 for plain text, of which nothing is asked.
    """

    input_ids: np.ndarray
    label_mask: np.ndarray
    prompt_length: int


def labeled_tokens(tokenizer: Tokenizer, renderings: Sequence[Rendering]) -> Iterator[LabeledTokens]:
    """Tokenizes renderings whole, as `apply_chat_template` and servers do, and marks the tokens of their labels.

    A token that only begins in a label, or only ends there, belongs to it: white space before an answer is often one
    token with its first word. Where such a token holds more of the prompt than white space, the text is tokenized in
    two parts instead, for generation begins behind a prompt's last token.
    """
    bos = bos_added(tokenizer)
    encoded = _encode(tokenizer, [rendering.text for rendering in renderings])
    for rendering, (ids, offsets) in zip(renderings, encoded, strict=True):
        ids, spans = _token_spans(tokenizer, rendering, ids, offsets)
        mask = np.zeros(len(ids), dtype=bool)
        for start, stop in spans:
            mask[start:stop] = True
        last = max((start for start, stop in spans if stop > start), default=0)
        head = bos if rendering.adds_bos else []
        mask = np.concatenate([np.zeros(len(head), dtype=bool), mask])
        mask[:1] = False
        yield LabeledTokens(np.array([*head, *ids], dtype=np.int32), mask, len(head) + last)


def text_windows(tokenizer: Tokenizer, text: str, max_tokens: int) -> list[LabeledTokens]:
    """Cuts a plain text into windows of at most `max_tokens` tokens, so that every token is a label exactly once.

    A window begins with the tokenizer's beginning-of-text token, if it adds one, and repeats the end of the window
    before as context. Without that token the text's first token is no label: nothing predicts it.
    """
    bos = bos_added(tokenizer)
    ids = _encode(tokenizer, [text])[0][0]
    room = max_tokens - len(bos)
    step = room - int(OVERLAP * room)
    windows = []
    for start in range(0, max(1, len(ids) - room + step), step):
        body = ids[start : start + room]
        mask = np.ones(len(bos) + len(body), dtype=bool)
        mask[: len(bos) + (room - step if start else 0)] = False
        mask[:1] = False
        windows.append(LabeledTokens(np.array([*bos, *body], dtype=np.int32), mask, 0))
    return windows


def bos_added(tokenizer: Tokenizer) -> list[int]:
    """The beginning-of-text token if the tokenizer puts one before every text, else nothing."""
    first = tokenizer("a")["input_ids"][:1]
    return first if first and first[0] == tokenizer.bos_token_id else []


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[tuple[list[int], list[Span] | None]]:
    """Ids of each text and the characters of each token; None for a tokenizer written in Python, which lacks them."""
    out = tokenizer(
        texts,
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=tokenizer.is_fast,
        verbose=False,
    )
    offsets = out["offset_mapping"] if tokenizer.is_fast else [None] * len(texts)
    return list(zip(out["input_ids"], offsets, strict=True))


def _token_spans(
    tokenizer: Tokenizer, rendering: Rendering, ids: list[int], offsets: list[Span] | None
) -> tuple[list[int], list[Span]]:
    """The ids and the (start, stop) tokens of each label."""
    if offsets is None:
        return ids, [
            (_border(tokenizer, rendering.text[:start], ids), _border(tokenizer, rendering.text[:stop], ids))
            for start, stop in rendering.labels
        ]
    text = rendering.text
    crossed = {start for start, _ in rendering.labels for a, b in offsets if a < start < b and text[a:start].strip()}
    if crossed and (parts := _in_parts(tokenizer, text, sorted(crossed), ids)):
        ids, offsets = parts
    starts, stops = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    return ids, [
        (int(np.searchsorted(stops, start, side="right")), int(np.searchsorted(starts, stop, side="left")))
        for start, stop in rendering.labels
    ]


def _in_parts(
    tokenizer: Tokenizer, text: str, cuts: list[int], whole: list[int]
) -> tuple[list[int], list[Span]] | None:
    """Ids and characters of a text cut at some places; None where a part's own start would change the text."""
    ends = [0, *cuts, len(text)]
    parts = _encode(tokenizer, [text[a:b] for a, b in itertools.pairwise(ends)])
    ids = [token for part, _ in parts for token in part]
    # SentencePiece tokenizers put a space before every text.
    if tokenizer.decode(ids) != tokenizer.decode(whole):
        return None
    spans = [(a + at, b + at) for at, (_, found) in zip(ends, parts, strict=False) for a, b in found or []]
    return ids, spans


def _border(tokenizer: Tokenizer, before: str, ids: list[int]) -> int:
    """Tokens that the text's start shares with the whole text."""
    start = _encode(tokenizer, [before])[0][0]
    shared = (place for place, pair in enumerate(zip(start, ids, strict=False)) if pair[0] != pair[1])
    return next(shared, min(len(start), len(ids)))
