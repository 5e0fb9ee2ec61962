"""The audit of a sweep's data: every data set read once, line by line, and compared with itself and the others.

Reading needs neither torch nor transformers, and memory that grows by a few hundred bytes a line, whatever the lines
hold. What depends on the tokenizer, `too_long`, is added by the caller.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainables.config.defect_rules import Action, chosen_actions
from trainables.config.sections import FieldNames
from trainables.data.audit.cross_line_checks import compare_lines
from trainables.data.audit.dataset_scan import AuditSource, Columns, read_columns
from trainables.data.audit.leakage import Area, HeldoutIndex
from trainables.data.audit.line_scan import Source
from trainables.data.audit.report import Hit, RuleHits, SetAudit
from trainables.data.defects import SHOWN_PER_RULE
from trainables.data.json_lines import Record
from trainables.data.samples import Sample, check_record
from trainables.data.sources import read_records
from trainables.errors import UserError, UserErrors

__all__ = ["Audit", "AuditSource", "audit", "kept_samples"]


@dataclass
class Audit:
    """What is wrong with the data of a sweep.

    Attributes:
        train: The training set.
        areas: The held-out areas by name.
        seconds: CPU time of each kind of rule, over all data sets and processes.
    """

    train: SetAudit
    areas: dict[str, SetAudit]
    seconds: dict[str, float] = field(default_factory=dict)

    def sets(self) -> Iterator[SetAudit]:
        """The training set, then the areas."""
        yield self.train
        yield from self.areas.values()

    def failures(self) -> list[UserError]:
        """What keeps a sweep from starting: lines whose rule is to fail, and sets of which nothing is left."""
        errors = [error for one in self.sets() for error in one.failures()]
        for one in self.sets():
            if not one.samples_kept:
                got = f"none of {one.lines} lines ({_counts(one)})"
                errors.append(UserError(one.path, "must hold samples", got, "correct the lines or name another file"))
        return errors

    def add_too_long(self, where: str, tokens: Mapping[int, int], max_tokens: int) -> None:
        """Adds the samples of a data set that the tokenizer found too long.

        Args:
            where: The setting that names the data set, as in its `AuditSource`.
            tokens: Line to tokens, of each sample of more than `max_tokens`.
            max_tokens: The longest that is allowed.
        """
        one = next(one for one in self.sets() if one.where == where)
        longest = sorted(tokens)[:SHOWN_PER_RULE]
        hits = [Hit("too_long", line, f"{tokens[line]} tokens (max_tokens={max_tokens})") for line in longest]
        one.add("too_long", tokens, hits)

    def to_json(self) -> dict[str, Any]:
        """As `plan.json` holds it."""
        return {"train": self.train.to_json(), "areas": {name: one.to_json() for name, one in self.areas.items()}}


def audit(
    train: AuditSource,
    areas: Mapping[str, AuditSource],
    fields: FieldNames,
    actions: Mapping[str, str],
    *,
    processes: int = 2,
) -> Audit:
    """Looks at every line of a sweep's data.

    Args:
        train: The training set.
        areas: The held-out areas by name; an item that an earlier area holds too is an `area_overlap` of the later.
        fields: Names of the keys.
        actions: What to do with the lines of a rule, where it is not the rule's default.
        processes: Processes that share the work on data sets of more than some thousand lines.

    Raises:
        UserErrors: Files that cannot be read, all of them together, with the lines of the others that must not be
            there; where all files can be read, these lines are in the result instead.
        UserError: An action that a rule does not allow.
    """
    chosen = chosen_actions(actions)
    run = _Run(fields, chosen, processes)
    heldout = {name: run.area(name, source) for name, source in areas.items()}
    trained = run.train(train)
    found = {name: one for name, one in heldout.items() if one}
    if run.errors:
        readable = [one for one in (trained, *found.values()) if one]
        raise UserErrors([*run.errors, *(error for one in readable for error in one.failures())])
    assert trained is not None  # or it would have left an error
    return Audit(trained, found, run.seconds)


class _Run:
    """The data sets one after the other, their errors collected."""

    def __init__(self, fields: FieldNames, actions: Mapping[str, Action], processes: int) -> None:
        self._fields, self._actions, self._processes = fields, actions, processes
        self._held: list[Area] = []
        self.errors: list[UserError] = []
        self.seconds: dict[str, float] = {}

    def area(self, name: str, data: AuditSource) -> SetAudit | None:
        """Audits a held-out area and remembers its items."""
        columns, found = self._read(data, "area_overlap", keep_texts=True)
        if columns:
            self._held.append(Area(name, data.path, columns.texts()))
        return found

    def train(self, data: AuditSource) -> SetAudit | None:
        """Audits the training set, with all areas known."""
        return self._read(data, "leakage", keep_texts=False)[1]

    def _read(self, data: AuditSource, rule: str, *, keep_texts: bool) -> tuple[Columns | None, SetAudit | None]:
        source = Source(data.path, self._fields, HeldoutIndex(self._held), rule, keep_texts)
        try:
            columns = read_columns(data, source, self._processes)
            found = _set_audit(data, columns, rule, self._actions)
            start = time.process_time()
            compare_lines(found, columns, data, self._fields)
            columns.seconds["compare"] += time.process_time() - start
        except UserError as error:
            self.errors.append(error)
            return None, None
        for kind, spent in columns.seconds.items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + spent
        return columns, found


def _set_audit(data: AuditSource, columns: Columns, rule: str, actions: Mapping[str, Action]) -> SetAudit:
    found = SetAudit(data.where, data.path, columns.lines, columns.rows()["line"].copy(), actions)
    for name, lines in columns.hit_lines.items():
        found.add(name, np.array(lines, np.int64), columns.examples[name])
    if rule in found.hits:
        areas = {area: np.unique(np.array(lines, np.int64)) for area, lines in columns.matched.items()}
        found.hits[rule] = RuleHits(found.hits[rule].lines, found.hits[rule].examples, areas)
    return found


def _counts(one: SetAudit) -> str:
    return ", ".join(f"{rule}: {len(found.lines)}" for rule, found in one.hits.items())


def kept_samples(source: AuditSource, fields: FieldNames, found: SetAudit) -> list[Sample]:
    """The samples of a data set that its audit leaves, in order; the file is read again.

    Raises:
        UserError: The file was changed since it was audited.
    """
    dropped = set(found.dropped_lines.tolist())
    expected = set(found.samples.tolist()) - dropped
    last = max(expected, default=0)
    samples: list[Sample] = []
    for record in read_records(source.path, fields, source.split):
        if record.line > last:
            break
        if isinstance(record, Record) and record.line in expected:
            sample = check_record(source.path, record, fields)
            if isinstance(sample, Sample):
                samples.append(sample)
    if len(samples) != len(expected):
        raise UserError(source.path, "must not change after its audit", f"{len(samples)} samples", "start again")
    return samples
