"""Compare all lines of a data set: repeats, contradictions, departures from the common format and length."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trainables.config.data_sections import FieldNames
from trainables.data.audit.dataset_scan import AuditSource, DatasetScan, samples_at
from trainables.data.audit.duplicates import are_near_duplicates, candidates, conflicts, first_of
from trainables.data.audit.fingerprint import question_excerpt, sample_shingles
from trainables.data.audit.outliers import departures, unusual_lengths
from trainables.data.audit.report import Hit, SetAudit
from trainables.data.audit.wrappers import Wrappers
from trainables.data.defects import SHOWN_PER_RULE, excerpt, location
from trainables.data.samples import Sample

PAIRS_AT_ONCE = 50_000  # the texts of as many pairs are held in memory


class Pairs(NamedTuple):
    """Rows, each with an earlier row, (pairs,) int64; the later rows ascend, each once."""

    later: np.ndarray
    earlier: np.ndarray

    def only(self, which: np.ndarray) -> Pairs:
        return Pairs(self.later[which], self.earlier[which])

    def joined(self, other: Pairs) -> Pairs:
        later = np.concatenate([self.later, other.later])
        order = np.argsort(later)
        return Pairs(later[order], np.concatenate([self.earlier, other.earlier])[order])


SHOWN: dict[str, Callable[[Sample, Wrappers], str]] = {
    "repeated_id": lambda sample, _: excerpt(sample.id),
    "exact_duplicate": question_excerpt,
    "near_duplicate": question_excerpt,
    "conflicting_responses": lambda sample, _: excerpt(sample.response),
}


def compare_lines(
    audit: SetAudit, scan: DatasetScan, data: AuditSource, fields: FieldNames, wrappers: Wrappers
) -> None:
    """Adds the findings of several lines to an audit that has those of single lines.

    Args:
        audit: The set's audit.
        scan: The scan of the set.
        data: The file, of which similar lines are read again.
        fields: Names of the keys.
        wrappers: Constant texts around prompts, which are not compared.

    Raises:
        UserError: The file was changed since it was read.
    """
    rows = scan.rows()
    _report_departures(audit, scan, rows["line"])
    _report_lengths(audit, rows)
    # Lines that are dropped for a fault of their own take no part: a sound line must not be dropped as their copy.
    left = np.flatnonzero(~np.isin(rows["line"], audit.dropped_lines))
    exact = _pair_with_first(rows["exact"], left)
    same = _pair_with_first(rows["norm"], left)
    same = same.only(~np.isin(same.later, exact.later))
    distinct = np.setdiff1d(left, np.concatenate([exact.later, same.later]))
    near = same.joined(_similar(scan, distinct, rows["line"], data, fields, wrappers))
    contradicting = Pairs(*(left[part] for part in conflicts(rows["prompt"][left], rows["response"][left])))
    copies = np.concatenate([exact.later, near.later])
    repeats = {
        "exact_duplicate": exact,
        "near_duplicate": near,
        "repeated_id": _repeated_ids(rows["id"], left, {"exact_duplicate": exact, "near_duplicate": near}, audit),
        "conflicting_responses": contradicting.only(~np.isin(contradicting.later, copies)),
    }
    _report_repeats(audit, repeats, rows["line"], data, fields, wrappers)


def _pair_with_first(keys: np.ndarray, among: np.ndarray) -> Pairs:
    """Pairs each row of `among` whose key occurs earlier in `among` with the first row of that key."""
    first = first_of(keys[among])
    later = np.flatnonzero(first != np.arange(len(among)))
    return Pairs(among[later], among[first[later]])


def _similar(
    scan: DatasetScan, among: np.ndarray, lines: np.ndarray, data: AuditSource, fields: FieldNames, wrappers: Wrappers
) -> Pairs:
    """Pairs rows of `among` with an earlier near duplicate: MinHash proposes pairs, their texts decide."""
    considered = np.zeros(len(lines), bool)
    considered[among] = True
    pairs = candidates(scan.bands(), considered)
    confirmed: dict[int, int] = {}
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        some = pairs[start : start + PAIRS_AT_ONCE]
        read = samples_at(data, fields, lines[np.unique(some)])
        texts = {sample.line: sample_shingles(sample, wrappers) for sample in read}
        for later, earlier in some.tolist():
            if later not in confirmed and are_near_duplicates(texts[int(lines[later])], texts[int(lines[earlier])]):
                confirmed[later] = earlier
    return Pairs(np.array(list(confirmed), np.int64), np.array(list(confirmed.values()), np.int64))


def _repeated_ids(ids: np.ndarray, among: np.ndarray, copies: dict[str, Pairs], audit: SetAudit) -> Pairs:
    """Pairs rows with the first row of the same id."""
    # A copy is not reported twice: not for its id if it is dropped or refused as a copy of that row already.
    repeated = _pair_with_first(ids, among)
    for rule, pairs in copies.items():
        if audit.actions[rule] != "keep":
            copied = pairs.later[ids[pairs.later] == ids[pairs.earlier]]
            repeated = repeated.only(~np.isin(repeated.later, copied))
    return repeated


def _report_repeats(
    audit: SetAudit,
    repeats: dict[str, Pairs],
    lines: np.ndarray,
    data: AuditSource,
    fields: FieldNames,
    wrappers: Wrappers,
) -> None:
    # The file is read once more, for excerpts of the first few lines.
    shown = {rule: pairs.only(np.arange(len(pairs.later)) < SHOWN_PER_RULE) for rule, pairs in repeats.items()}
    wanted = np.unique(np.concatenate([pairs.later for pairs in shown.values()]))
    samples = {sample.line: sample for sample in samples_at(data, fields, lines[wanted])} if len(wanted) else {}
    for rule, pairs in repeats.items():
        examples = [
            Hit(rule, later, SHOWN[rule](samples[later], wrappers), location(data.path, earlier))
            for later, earlier in zip(*(lines[part].tolist() for part in shown[rule]), strict=True)
        ]
        audit.add(rule, lines[pairs.later], examples)


def _report_departures(audit: SetAudit, scan: DatasetScan, lines: np.ndarray) -> None:
    odd = departures(scan.markers(), scan.names)
    rows = sorted(odd)
    examples = [Hit("format_departure", int(lines[row]), odd[row]) for row in rows[:SHOWN_PER_RULE]]
    audit.add("format_departure", lines[rows], examples)


def _report_lengths(audit: SetAudit, rows: np.ndarray) -> None:
    odd, median = unusual_lengths(rows["characters"])
    examples = [
        Hit("response_length", int(row["line"]), f"{row['characters']} characters, where the median is {median:.0f}")
        for row in rows[odd[:SHOWN_PER_RULE]]
    ]
    audit.add("response_length", rows["line"][odd], examples)
