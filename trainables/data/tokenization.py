"""Tokenize samples once for a sweep, into an Arrow file that all lanes map.

The caller passes in a Hugging Face tokenizer, so that this module imports no framework.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from trainables.data.chat_template import Tokenizer, render, unfit
from trainables.data.defects import reason
from trainables.data.samples import Sample
from trainables.errors import UserError

SAMPLES_AT_ONCE = 512  # fast tokenizers are fast only on many texts at once
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("label_mask", pa.list_(pa.bool_())),
        ("prompt_length", pa.int32()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("meta", pa.string()),
        ("group", pa.string()),
    ]
)


class TooLong(NamedTuple):
    """A sample of more than `max_tokens` tokens, and its line in the data file."""

    id: str
    line: int
    tokens: int


@dataclass(frozen=True)
class Tokenized:
    """Summary of a file that `tokenize` wrote.

    Attributes:
        path: The Arrow file.
        samples: Samples in it.
        tokens: Their tokens, template included.
        label_tokens: Tokens that are trained on.
        lengths: (samples,) int32: tokens of each.
        too_long: Samples that were left out.
    """

    path: str
    samples: int
    tokens: int
    label_tokens: int
    lengths: np.ndarray
    too_long: tuple[TooLong, ...]


def tokenize(
    samples: list[Sample],
    tokenizer: Tokenizer,
    template: str | None,
    max_tokens: int,
    path: str | Path,
) -> Tokenized:
    """Writes the samples' tokens to an Arrow file; the file appears only when it is complete.

    Args:
        samples: The samples that the audit kept.
        tokenizer: The model's.
        template: As for `render`.
        max_tokens: Longest sample in tokens, template included. Longer ones are left out and listed, never cut.
        path: The file to write; an existing one is replaced.

    Raises:
        UserError: A sample cannot be rendered, or the file cannot be written.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    too_long: list[TooLong] = []
    lengths: list[int] = []
    label_tokens = 0
    try:
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for chunk in _rows(samples, tokenizer, template):
                too_long += [
                    TooLong(row.sample.id, row.sample.line, row.size) for row in chunk if row.size > max_tokens
                ]
                kept = [row for row in chunk if row.size <= max_tokens]
                writer.write_batch(_record_batch(kept))
                lengths += [row.size for row in kept]
                label_tokens += sum(int(row.label_mask.sum()) for row in kept)
        os.replace(partial, target)
    except OSError as error:
        remedy = "free disk space or choose another storage_path"
        raise UserError(str(target), "tokenized data must be writable", reason(error), remedy) from error
    finally:
        if partial.exists():  # `unlink(missing_ok=True)` raises where a parent is no folder
            partial.unlink()
    return Tokenized(
        path=str(target),
        samples=len(lengths),
        tokens=sum(lengths),
        label_tokens=label_tokens,
        lengths=np.array(lengths, dtype=np.int32),
        too_long=tuple(too_long),
    )


class _Row(NamedTuple):
    sample: Sample
    input_ids: np.ndarray  # (size,) int32
    label_mask: np.ndarray  # (size,) bool
    prompt_length: int

    @property
    def size(self) -> int:
        return len(self.input_ids)


def _rows(samples: list[Sample], tokenizer: Tokenizer, template: str | None) -> Iterator[list[_Row]]:
    # The tokenizer's own beginning-of-text token is not part of a wrapper's text; a chat template writes it itself.
    bos = [] if template is None else _bos_added(tokenizer)
    joint = _continuation_mark(tokenizer)
    for start in range(0, len(samples), SAMPLES_AT_ONCE):
        chunk = samples[start : start + SAMPLES_AT_ONCE]
        rendered = [render(sample, tokenizer, template) for sample in chunk]
        first = iter(_ids(tokenizer, [segments[0][0] for segments in rendered]))
        later = iter(_continued_ids(tokenizer, [text for segments in rendered for text, _ in segments[1:]], joint))
        yield [
            _row(sample, [bos + next(first), *(next(later) for _ in segments[1:])], [label for _, label in segments])
            for sample, segments in zip(chunk, rendered, strict=True)
        ]


def _row(sample: Sample, pieces: list[list[int]], labels: list[bool]) -> _Row:
    # The prompt ends before the last label: in a conversation, earlier answers are part of it.
    last_label = max(i for i, label in enumerate(labels) if label)
    row = _Row(
        sample=sample,
        input_ids=np.array([token for piece in pieces for token in piece], dtype=np.int32),
        label_mask=np.repeat(labels, [len(piece) for piece in pieces]),
        prompt_length=sum(len(piece) for piece in pieces[:last_label]),
    )
    if row.size == 0 or row.label_mask[0] or not row.label_mask[row.prompt_length :].any():
        raise unfit(sample, "must give tokens for its prompt and its response", f"{row.size} tokens in all")
    return row


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    return tokenizer(
        texts,
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]


def _bos_added(tokenizer: Tokenizer) -> list[int]:
    """The beginning-of-text token if the tokenizer puts one before every text, else nothing."""
    first = tokenizer("a")["input_ids"][:1]
    return first if first[0] == tokenizer.bos_token_id else []


def _continuation_mark(tokenizer: Tokenizer) -> str:
    """The text to put before a segment so that it is tokenized as the continuation of another; mostly empty."""
    # SentencePiece tokenizers put a space before every text: "Q:" and "b", tokenized separately, decode to "Q: b".
    # After a special token (in older ones, after a line end) they do not; that token is removed afterwards.
    start = _ids(tokenizer, ["Q:"])[0]
    wanted = {text: tokenizer.decode(start) + text for text in ("b", " b", "\nb")}

    def correct_joins(mark: str) -> int:
        try:
            pieces = _continued_ids(tokenizer, list(wanted), mark)
        except UserError:
            return -1
        return sum(tokenizer.decode(start + ids) == text for ids, text in zip(pieces, wanted.values(), strict=True))

    # The first of the best: no mark where none is needed.
    return max(["", *tokenizer.all_special_tokens, "\n"], key=correct_joins)


def _continued_ids(tokenizer: Tokenizer, texts: list[str], mark: str) -> list[list[int]]:
    if not mark:
        return _ids(tokenizer, texts)
    head = _ids(tokenizer, [mark])[0]
    marked = _ids(tokenizer, [mark + text for text in texts])
    if any(ids[: len(head)] != head for ids in marked):
        rule = f"the tokenizer must keep {mark!r} apart from the text behind it"
        raise UserError("model.name", rule, "a token that joins them", "use a model with another tokenizer")
    return [ids[len(head) :] for ids in marked]


def _record_batch(rows: list[_Row]) -> pa.RecordBatch:
    offsets = pa.array(np.cumsum([0, *(row.size for row in rows)]), pa.int32())
    return pa.record_batch(
        [
            pa.array([row.sample.id for row in rows], pa.string()),
            pa.ListArray.from_arrays(offsets, _joined([row.input_ids for row in rows], np.int32)),
            pa.ListArray.from_arrays(offsets, _joined([row.label_mask for row in rows], np.bool_)),
            pa.array([row.prompt_length for row in rows], pa.int32()),
            pa.array([row.sample.prompt for row in rows], pa.string()),
            pa.array([row.sample.response for row in rows], pa.string()),
            # `default`: Parquet metadata may hold dates, which JSON lacks.
            pa.array([json.dumps(row.sample.meta, default=str) for row in rows], pa.string()),
            pa.array([_group(row.sample) for row in rows], pa.string()),
        ],
        schema=SCHEMA,
    )


def _joined(parts: list[np.ndarray], dtype: type) -> pa.Array:
    return pa.array(np.concatenate([np.empty(0, dtype), *parts]))


def _group(sample: Sample) -> str | None:
    # Groups are compared as texts; without sorted keys equal objects could differ.
    group = sample.meta.get("group")
    return group if group is None or isinstance(group, str) else json.dumps(group, default=str, sort_keys=True)
