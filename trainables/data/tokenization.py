"""Tokenize samples once for a sweep, into an Arrow file that all lanes map.

The caller passes in a Hugging Face tokenizer, so that this module imports no framework.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from trainables.data.defects import reason
from trainables.data.samples import Sample
from trainables.data.template.chat_template import ChatTemplate
from trainables.data.template.rendering import Rendering, Tokenizer, template_tokens, text_notes, unfit
from trainables.data.template.token_labels import labeled_tokens, text_windows
from trainables.data.template.wrapper import render_text, render_wrapper
from trainables.errors import UserError

SHOWN_SAMPLES = 2
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
        ("answer_mark", pa.string()),
    ]
)
SCHEMA_OF_0_1 = pa.schema([field for field in SCHEMA if field.name != "answer_mark"])  # of sweeps that are resumed


class TooLong(NamedTuple):
    """A sample of more than `max_tokens` tokens, and its line in the data file."""

    id: str
    line: int
    tokens: int


class ShownSample(NamedTuple):
    """A sample as the model sees it: its id, and its (text, is label) parts in order, decoded from its tokens."""

    id: str
    parts: list[tuple[str, bool]]


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
        notes: What the template did to how many samples, by (name in `NOTES`, what it is about).
        shown: The first samples as the model sees them.
    """

    path: str
    samples: int
    tokens: int
    label_tokens: int
    lengths: np.ndarray
    too_long: tuple[TooLong, ...]
    notes: dict[tuple[str, str], int]
    shown: tuple[ShownSample, ...]


def tokenize(
    samples: list[Sample],
    tokenizer: Tokenizer,
    template: str | None,
    max_tokens: int,
    path: str | Path,
    template_args: Mapping[str, Any] | None = None,
    train_on_template_text: bool = False,
) -> Tokenized:
    """Writes the samples' tokens to an Arrow file; the file appears only when it is complete.

    Args:
        samples: The samples that the audit kept.
        tokenizer: The model's.
        template: None for the tokenizer's chat template, or a wrapper with `{prompt}` and, later, `{response}`.
        max_tokens: Longest sample in tokens, template included. Longer ones are left out and listed; only plain texts
            are cut, into windows of that many.
        path: The file to write; an existing one is replaced.
        template_args: Variables for the chat template.
        train_on_template_text: Learn what the chat template writes between generation prompt and answer, too.

    Raises:
        UserError: A sample cannot be rendered, or the file cannot be written.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    totals = _Totals()
    renderer = Renderer(tokenizer, template, template_args or {}, train_on_template_text)
    try:
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for chunk in _rows(samples, tokenizer, renderer, max_tokens):
                writer.write_batch(_record_batch(totals.add(chunk, tokenizer, max_tokens)))
        os.replace(partial, target)
    except OSError as error:
        remedy = "free disk space or choose another storage_path"
        raise UserError(str(target), "tokenized data must be writable", reason(error), remedy) from error
    finally:
        if partial.exists():  # `unlink(missing_ok=True)` raises where a parent is no folder
            partial.unlink()
    return totals.of_file(str(target))


class _Row(NamedTuple):
    sample: Sample
    rendering: Rendering
    id: str
    input_ids: np.ndarray  # (size,) int32
    label_mask: np.ndarray  # (size,) bool
    prompt_length: int

    @property
    def size(self) -> int:
        return len(self.input_ids)


@dataclass
class _Totals:
    """What `Tokenized` says of a file, while its rows are written."""

    lengths: list[int] = field(default_factory=list)
    label_tokens: int = 0
    too_long: list[TooLong] = field(default_factory=list)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)
    shown: list[ShownSample] = field(default_factory=list)

    def add(self, chunk: list[_Row], tokenizer: Tokenizer, max_tokens: int) -> list[_Row]:
        """Counts a chunk; returns its rows that are short enough."""
        self.too_long += [TooLong(row.sample.id, row.sample.line, row.size) for row in chunk if row.size > max_tokens]
        kept = [row for row in chunk if row.size <= max_tokens]
        self.lengths += [row.size for row in kept]
        self.label_tokens += sum(int(row.label_mask.sum()) for row in kept)
        self.notes.update(note for row in kept for note in row.rendering.notes)
        self.shown += [_shown(row, tokenizer) for row in kept[: SHOWN_SAMPLES - len(self.shown)]]
        return kept

    def of_file(self, path: str) -> Tokenized:
        return Tokenized(
            path=path,
            samples=len(self.lengths),
            tokens=sum(self.lengths),
            label_tokens=self.label_tokens,
            lengths=np.array(self.lengths, dtype=np.int32),
            too_long=tuple(self.too_long),
            notes=dict(self.notes),
            shown=tuple(self.shown),
        )


class Renderer:
    """Renders samples by the template that the config names; arguments as for `tokenize`."""

    def __init__(self, tokenizer: Tokenizer, template: str | None, args: Mapping[str, Any], whole_turns: bool) -> None:
        self._tokenizer, self._template, self._args, self._whole_turns = tokenizer, template, args, whole_turns
        self._chat: ChatTemplate | None = None

    def render(self, sample: Sample) -> Rendering:
        """Renders a sample.

        Raises:
            UserError: The template cannot render it, or the tokenizer lacks a chat template or end-of-text token.
        """
        rendering = self._render(sample) if sample.text is None else render_text(sample)
        return replace(rendering, notes=(*rendering.notes, *text_notes(sample, rendering.text, self._template_tokens)))

    @cached_property
    def _template_tokens(self) -> re.Pattern[str]:
        return template_tokens(self._tokenizer)

    def _render(self, sample: Sample) -> Rendering:
        if self._template is not None:
            return render_wrapper(sample, self._tokenizer, self._template)
        if self._chat is None:  # only now: plain texts need no chat template
            self._chat = ChatTemplate(self._tokenizer, self._args, self._whole_turns)
        return self._chat.render(sample)


def _rows(samples: list[Sample], tokenizer: Tokenizer, renderer: Renderer, max_tokens: int) -> Iterator[list[_Row]]:
    for start in range(0, len(samples), SAMPLES_AT_ONCE):
        chunk = samples[start : start + SAMPLES_AT_ONCE]
        rendered = [renderer.render(sample) for sample in chunk]
        asked = iter(labeled_tokens(tokenizer, [r for s, r in zip(chunk, rendered, strict=True) if s.text is None]))
        rows = []
        for sample, rendering in zip(chunk, rendered, strict=True):
            if sample.text is None:
                rows.append(_checked(_Row(sample, rendering, sample.id, *next(asked))))
            else:
                rows += _text_rows(sample, rendering, tokenizer, max_tokens)
        yield rows


def _text_rows(sample: Sample, rendering: Rendering, tokenizer: Tokenizer, max_tokens: int) -> Iterator[_Row]:
    windows = text_windows(tokenizer, rendering.text, max_tokens)
    for number, window in enumerate(windows, start=1):
        if len(windows) == 1:
            yield _checked(_Row(sample, rendering, sample.id, *window))
        else:
            said = Rendering(tokenizer.decode(window.input_ids[window.label_mask]), ())
            said = replace(said, response=said.text, notes=rendering.notes if number == 1 else ())
            yield _checked(_Row(sample, said, f"{sample.id} (part {number} of {len(windows)})", *window))


def _shown(row: _Row, tokenizer: Tokenizer) -> ShownSample:
    borders = [0, *(np.flatnonzero(np.diff(row.label_mask)) + 1), row.size]
    runs = [(start, stop) for start, stop in itertools.pairwise(borders) if stop > start]
    return ShownSample(row.id, [(tokenizer.decode(row.input_ids[a:b]), bool(row.label_mask[a])) for a, b in runs])


def _checked(row: _Row) -> _Row:
    if not row.label_mask.any():
        raise unfit(row.sample, "must give a token that can be learnt", f"{row.size} tokens in all")
    return row


def _record_batch(rows: list[_Row]) -> pa.RecordBatch:
    offsets = pa.array(np.cumsum([0, *(row.size for row in rows)]), pa.int32())
    return pa.record_batch(
        [
            pa.array([row.id for row in rows], pa.string()),
            pa.ListArray.from_arrays(offsets, _joined([row.input_ids for row in rows], np.int32)),
            pa.ListArray.from_arrays(offsets, _joined([row.label_mask for row in rows], np.bool_)),
            pa.array([row.prompt_length for row in rows], pa.int32()),
            pa.array([row.sample.prompt for row in rows], pa.string()),
            pa.array([row.rendering.response for row in rows], pa.string()),
            # `default`: Parquet metadata may hold dates, which JSON lacks.
            pa.array([json.dumps(row.sample.meta, default=str) for row in rows], pa.string()),
            pa.array([_group(row.sample) for row in rows], pa.string()),
            pa.array([row.rendering.answer_mark for row in rows], pa.string()),
        ],
        schema=SCHEMA,
    )


def _joined(parts: list[np.ndarray], dtype: type) -> pa.Array:
    return pa.array(np.concatenate([np.empty(0, dtype), *parts]))


def _group(sample: Sample) -> str | None:
    # Groups are compared as texts; without sorted keys equal objects could differ.
    group = sample.meta.get("group")
    if group is None and sample.text is not None:
        return sample.id  # the windows of a text are not independent; without a prompt, all texts would be one group
    return group if group is None or isinstance(group, str) else json.dumps(group, default=str, sort_keys=True)
