"""Audit of one data set: the lines that break each rule, and those that are dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from trainables.config.defect_rules import RULES, Action
from trainables.data.defects import SHOWN_PER_RULE, location
from trainables.errors import UserError


class Hit(NamedTuple):
    """A line that breaks a rule.

    Attributes:
        rule: A key of `RULES`.
        line: Line or row of the file, counted from 1.
        got: What was found, short and printable.
        related: "FILE line N" of the copy or the held-out item.
    """

    rule: str
    line: int
    got: str
    related: str | None = None

    def as_error(self, path: str, lines: int = 1) -> UserError:
        """The line's error; `lines` of the file break the rule."""
        rule = RULES[self.rule]
        got = self.got if self.related is None else f"{self.got}, see {self.related}"
        drops = f" ({lines} line{'s' if lines > 1 else ''})" if rule.remedy.endswith("=drop") else ""
        return UserError(location(path, self.line), rule.must, got, rule.remedy + drops)


@dataclass
class RuleHits:
    """All lines of a data set that break one rule.

    Attributes:
        lines: (count,) int64, ascending, each once.
        examples: The first few of them.
        areas: Lines by held-out area, for `leakage` and `area_overlap` only.
    """

    lines: np.ndarray
    examples: list[Hit]
    areas: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class SetAudit:
    """Broken rules of one data set, and the samples that remain.

    Attributes:
        where: The setting that names it, such as `data.train`.
        path: The file as the config names it.
        lines: Number of non-blank lines (Parquet, hub: rows) that were read.
        samples: (samples_read,) int64: line numbers that hold a sample, ascending.
        actions: Action for the lines of each rule.
        hits: Lines by name of the rule, only for broken rules.
        forms: Number of samples of each form, as in `data.format`.
        unread_keys: Number of samples with each key that nothing reads, most first; `messages[].KEY` is of messages.
    """

    where: str
    path: str
    lines: int
    samples: np.ndarray
    actions: Mapping[str, Action]
    hits: dict[str, RuleHits] = field(default_factory=dict)
    forms: dict[str, int] = field(default_factory=dict)
    unread_keys: dict[str, int] = field(default_factory=dict)

    def add(self, rule: str, lines: Iterable[int] | np.ndarray, examples: Iterable[Hit]) -> None:
        """Adds lines that break a rule; only the first few examples are kept."""
        found = np.unique(np.fromiter(lines, np.int64) if not isinstance(lines, np.ndarray) else lines.astype(np.int64))
        if not len(found):
            return
        before = self.hits.get(rule, RuleHits(found[:0], []))
        shown = sorted([*before.examples, *examples], key=lambda hit: hit.line)[:SHOWN_PER_RULE]
        self.hits[rule] = RuleHits(np.union1d(before.lines, found), shown, before.areas)

    @property
    def samples_read(self) -> int:
        return len(self.samples)

    @property
    def samples_kept(self) -> int:
        return self.samples_read - int(np.isin(self.samples, self.dropped_lines).sum())

    @property
    def dropped_lines(self) -> np.ndarray:
        """(dropped,) int64: dropped lines, ascending, with and without a sample."""
        parts = [self.hits[rule].lines for rule in self._dropping()]
        return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))

    @property
    def dropped(self) -> dict[str, int]:
        """Number of lines that each rule drops; a line of several rules counts for the first in `RULES`."""
        counts: dict[str, int] = {}
        before = np.empty(0, np.int64)
        for rule in self._dropping():
            total = np.union1d(before, self.hits[rule].lines)
            if len(total) > len(before):
                counts[rule] = len(total) - len(before)
            before = total
        return counts

    def _dropping(self) -> list[str]:
        return [rule for rule in RULES if rule in self.hits and self.actions[rule] == "drop"]

    def failures(self) -> Iterator[UserError]:
        """Yields an error for each line whose action is "fail": at most `SHOWN_PER_RULE` of a rule, then a count."""
        for rule, wording in RULES.items():
            if rule not in self.hits or self.actions[rule] != "fail":
                continue
            found = self.hits[rule]
            yield from (hit.as_error(self.path, len(found.lines)) for hit in found.examples)
            # A line can break a rule twice, as with two empty texts: then there are more examples than lines.
            if len(found.lines) > len({hit.line for hit in found.examples}):
                got = f"{len(found.lines)} such lines, {len(found.examples)} of them above"
                yield UserError(self.path, wording.must, got, wording.remedy)

    def to_json(self) -> dict[str, Any]:
        """The set's part of `plan.json`."""
        return {
            "path": self.path,
            "lines": self.lines,
            "samples_read": self.samples_read,
            "samples_kept": self.samples_kept,
            "rules": {rule: self._rule_to_json(rule) for rule in RULES if rule in self.hits},
            "dropped": self.dropped,
            "forms": self.forms,
            "unread_keys": self.unread_keys,
        }

    def _rule_to_json(self, rule: str) -> dict[str, Any]:
        found = self.hits[rule]
        fields: dict[str, Any] = {
            "severity": RULES[rule].severity,
            "action": self.actions[rule],
            "count": len(found.lines),
            "lines": found.lines.tolist(),
            "examples": [{"line": hit.line, "got": hit.got, "related": hit.related} for hit in found.examples],
        }
        if found.areas:
            fields["areas"] = {area: lines.tolist() for area, lines in found.areas.items()}
        return fields
