"""Audit a sweep's data: read every data set once, line by line, and compare it with itself and the others.

Memory grows by a few hundred bytes a line, for lines of any length. No framework is imported; the caller adds the rule
that needs the tokenizer, `too_long`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainables.config.data_sections import FieldNames
from trainables.config.defect_rules import Action, chosen_actions
from trainables.data.audit.cross_line_checks import compare_lines
from trainables.data.audit.dataset_scan import AuditSource, DatasetScan, scan_dataset, some_prompts
from trainables.data.audit.leakage import HeldoutArea, HeldoutIndex
from trainables.data.audit.line_scan import ScanSpec
from trainables.data.audit.report import Hit, RuleHits, SetAudit
from trainables.data.audit.wrappers import NO_WRAPPERS, Wrappers, find_wrappers
from trainables.data.defects import SHOWN_PER_RULE
from trainables.data.samples import Sample, parse_sample
from trainables.data.sources import read_raw
from trainables.errors import UserError, UserErrors

__all__ = [
    "Audit",
    "AuditSource",
    "audit",
    "audit_areas",
    "kept_samples",
]  # other packages import `AuditSource` from here


@dataclass
class Audit:
    """Findings in the data of a sweep.

    Attributes:
        train: The training set.
        areas: The held-out areas by name.
        seconds: CPU time of each kind of rule, over all data sets and processes.
        wrappers: Constant texts around prompts, which duplicates and leaks are judged without.
    """

    train: SetAudit
    areas: dict[str, SetAudit]
    seconds: dict[str, float] = field(default_factory=dict)
    wrappers: Wrappers = NO_WRAPPERS

    def sets(self) -> Iterator[SetAudit]:
        yield self.train
        yield from self.areas.values()

    def failures(self) -> list[UserError]:
        """Errors that keep a sweep from starting: lines whose action is "fail", and sets with no sample left."""
        return _failures(list(self.sets()))

    def add_too_long(self, where: str, tokens: Mapping[int, int], max_tokens: int) -> None:
        """Adds the samples of a data set that have more than `max_tokens` tokens.

        Args:
            where: The setting that names the data set, as in its `AuditSource`.
            tokens: Tokens of each too long sample, by line.
            max_tokens: The most that are allowed.
        """
        one = next(one for one in self.sets() if one.where == where)
        longest = sorted(tokens)[:SHOWN_PER_RULE]
        hits = [Hit("too_long", line, f"{tokens[line]} tokens (max_tokens={max_tokens})") for line in longest]
        one.add("too_long", tokens, hits)

    def to_json(self) -> dict[str, Any]:
        """The audit's part of `plan.json`."""
        areas = {name: one.to_json() for name, one in self.areas.items()}
        return {"train": self.train.to_json(), "areas": areas, "wrappers": self.wrappers.to_json()}


def audit(
    train: AuditSource,
    areas: Mapping[str, AuditSource],
    fields: FieldNames,
    actions: Mapping[str, str],
    *,
    processes: int = 2,
) -> Audit:
    """Audits every line of a sweep's data.

    Args:
        train: The training set.
        areas: The held-out areas by name. An item of two areas is an `area_overlap` of the later one.
        fields: Names of the keys.
        actions: Actions that replace the rules' defaults.
        processes: Processes that share the work on data sets of more than some thousand lines.

    Raises:
        UserErrors: Some files cannot be read: all these errors, and the failures of the other files. If all can be
            read, failures are in the result instead.
        UserError: A rule does not allow its action.
    """
    chosen = chosen_actions(actions)
    start = time.process_time()
    wrappers = find_wrappers(some_prompts(source, fields) for source in (train, *areas.values()))
    auditor = _Auditor(fields, chosen, wrappers, processes)
    auditor.seconds["wrappers"] = time.process_time() - start
    # The areas come first: the training set is searched for their items, and each area for those of earlier areas.
    found = {name: auditor.audit_area(name, source) for name, source in areas.items()}
    trained = auditor.audit_train(train)
    readable = {name: one for name, one in found.items() if one}
    if trained is None or auditor.errors:
        sets = [one for one in (trained, *readable.values()) if one]
        raise UserErrors([*auditor.errors, *(error for one in sets for error in one.failures())])
    return Audit(trained, readable, auditor.seconds, wrappers)


def audit_areas(
    areas: Mapping[str, AuditSource], fields: FieldNames, actions: Mapping[str, str]
) -> dict[str, SetAudit]:
    """Audits held-out areas without a training set; arguments as for `audit`.

    Raises:
        UserErrors: A file can't be read, or has lines whose action is "fail", or no sample is left: all errors.
    """
    wrappers = find_wrappers(some_prompts(source, fields) for source in areas.values())
    auditor = _Auditor(fields, chosen_actions(actions), wrappers, processes=2)
    found = {name: one for name, source in areas.items() if (one := auditor.audit_area(name, source))}
    if errors := [*auditor.errors, *_failures(found.values())]:
        raise UserErrors(errors)
    return found


class _Auditor:
    """Audits one data set after the other and collects their errors."""

    def __init__(self, fields: FieldNames, actions: Mapping[str, Action], wrappers: Wrappers, processes: int) -> None:
        self._fields = fields
        self._actions = actions
        self._wrappers = wrappers
        self._processes = processes
        self._held: list[HeldoutArea] = []
        self.errors: list[UserError] = []
        self.seconds: dict[str, float] = {}

    def audit_area(self, name: str, data: AuditSource) -> SetAudit | None:
        scan, found = self._read(data, "area_overlap", keep_texts=True)
        if scan:
            self._held.append(HeldoutArea(name, data.path, scan.texts()))
        return found

    def audit_train(self, data: AuditSource) -> SetAudit | None:
        return self._read(data, "leakage", keep_texts=False)[1]

    def _read(self, data: AuditSource, rule: str, *, keep_texts: bool) -> tuple[DatasetScan | None, SetAudit | None]:
        spec = ScanSpec(data.path, self._fields, HeldoutIndex(self._held), rule, keep_texts, data.form, self._wrappers)
        try:
            scan = scan_dataset(data, spec, self._processes)
            found = _set_audit(data, scan, rule, self._actions)
            start = time.process_time()
            compare_lines(found, scan, data, self._fields, self._wrappers)
            scan.seconds["compare"] += time.process_time() - start
        except UserError as error:
            self.errors.append(error)
            return None, None
        for kind, spent in scan.seconds.items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + spent
        return scan, found


def _set_audit(data: AuditSource, scan: DatasetScan, rule: str, actions: Mapping[str, Action]) -> SetAudit:
    found = SetAudit(data.where, data.path, scan.lines, scan.rows()["line"].copy(), actions)
    found.forms, found.unread_keys = dict(scan.forms.most_common()), dict(scan.unread.most_common())
    for name, lines in scan.hit_lines.items():
        found.add(name, np.array(lines, np.int64), scan.examples[name])
    if rule in found.hits:
        areas = {area: np.unique(np.array(lines, np.int64)) for area, lines in scan.matched.items()}
        found.hits[rule] = RuleHits(found.hits[rule].lines, found.hits[rule].examples, areas)
    return found


def _failures(sets: Collection[SetAudit]) -> list[UserError]:
    errors = [error for one in sets for error in one.failures()]
    for one in sets:
        if not one.samples_kept:
            got = f"none of {one.lines} lines ({_counts(one)})"
            errors.append(UserError(one.path, "must hold samples", got, "correct the lines or name another file"))
    return errors


def _counts(one: SetAudit) -> str:
    return ", ".join(f"{rule}: {len(found.lines)}" for rule, found in one.hits.items())


def kept_samples(source: AuditSource, fields: FieldNames, found: SetAudit) -> list[Sample]:
    """Reads a file again and returns the samples that its audit did not drop, in order.

    Raises:
        UserError: The file was changed since the audit.
    """
    dropped = set(found.dropped_lines.tolist())
    expected = set(found.samples.tolist()) - dropped
    last = max(expected, default=0)
    samples: list[Sample] = []
    for raw in read_raw(source.path, fields, source.split, source.form):
        if raw.line > last:  # beyond `limit`: lines there were never audited
            break
        if raw.line in expected and isinstance(sample := parse_sample(source.path, raw, fields, source.form), Sample):
            samples.append(sample)
    if len(samples) != len(expected):
        raise UserError(source.path, "must not change after its audit", f"{len(samples)} samples", "start again")
    return samples
