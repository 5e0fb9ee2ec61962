"""What an audit found in one data set: which lines break which rule, and which of them are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from trainables.config.defect_rules import RULES, Action
from trainables.data.defects import SHOWN_PER_RULE, place
from trainables.errors import UserError


class Hit(NamedTuple):
    """One line that breaks a rule.

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

    def as_error(self, path: str) -> UserError:
        """The finding in the form of all user errors."""
        rule = RULES[self.rule]
        got = self.got if self.related is None else f"{self.got}, see {self.related}"
        return UserError(place(path, self.line), rule.must, got, rule.remedy)


@dataclass
class RuleHits:
    """All lines of a data set that break one rule.

    Attributes:
        lines: (count,) int64, ascending, each once.
        examples: The first few of them.
        areas: For `leakage` and `area_overlap`: the lines by held-out area.
    """

    lines: np.ndarray
    examples: list[Hit]
    areas: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class SetAudit:
    """What is wrong with one data set, and what is left of it.

    Attributes:
        where: The setting that names it, such as `data.train`.
        path: The file as the config names it.
        lines: Lines that are not blank (Parquet, hub: rows), as far as they were read.
        samples: (samples_read,) int64: those of them that hold a sample, ascending.
        actions: What to do with the lines of each rule.
        hits: Rule name to its lines, only rules with any.
    """

    where: str
    path: str
    lines: int
    samples: np.ndarray
    actions: Mapping[str, Action]
    hits: dict[str, RuleHits] = field(default_factory=dict)

    def add(self, rule: str, lines: Iterable[int] | np.ndarray, examples: Iterable[Hit]) -> None:
        """Adds lines that break a rule; of the examples the first few are kept."""
        found = np.unique(np.fromiter(lines, np.int64) if not isinstance(lines, np.ndarray) else lines.astype(np.int64))
        if not len(found):
            return
        before = self.hits.get(rule, RuleHits(found[:0], []))
        shown = sorted([*before.examples, *examples], key=lambda hit: hit.line)[:SHOWN_PER_RULE]
        self.hits[rule] = RuleHits(np.union1d(before.lines, found), shown, before.areas)

    @property
    def samples_read(self) -> int:
        """Samples that could be read."""
        return len(self.samples)

    @property
    def samples_kept(self) -> int:
        """Samples that are left when the dropped ones are taken out."""
        return self.samples_read - int(np.isin(self.samples, self.dropped_lines).sum())

    @property
    def dropped_lines(self) -> np.ndarray:
        """(dropped,) int64: the lines that are left out, ascending, whether or not they hold a sample."""
        parts = [self.hits[rule].lines for rule in self._dropping()]
        return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))

    @property
    def dropped(self) -> dict[str, int]:
        """Lines left out by each rule; a line that several rules drop counts for the first of them in `RULES`."""
        counts: dict[str, int] = {}
        before = np.empty(0, np.int64)
        for rule in self._dropping():
            together = np.union1d(before, self.hits[rule].lines)
            if len(together) > len(before):
                counts[rule] = len(together) - len(before)
            before = together
        return counts

    def _dropping(self) -> list[str]:
        return [rule for rule in RULES if rule in self.hits and self.actions[rule] == "drop"]

    def failures(self) -> Iterator[UserError]:
        """One error a line that must not be there, at most `SHOWN_PER_RULE` of a rule and then the count of all."""
        for rule, wording in RULES.items():
            if rule not in self.hits or self.actions[rule] != "fail":
                continue
            found = self.hits[rule]
            yield from (hit.as_error(self.path) for hit in found.examples)
            if len(found.lines) > len({hit.line for hit in found.examples}):
                got = f"{len(found.lines)} such lines, {len(found.examples)} of them above"
                yield UserError(self.path, wording.must, got, wording.remedy)

    def to_json(self) -> dict[str, Any]:
        """The set as `plan.json` holds it."""
        return {
            "path": self.path,
            "lines": self.lines,
            "samples_read": self.samples_read,
            "samples_kept": self.samples_kept,
            "rules": {rule: self._rule_to_json(rule) for rule in RULES if rule in self.hits},
            "dropped": self.dropped,
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
