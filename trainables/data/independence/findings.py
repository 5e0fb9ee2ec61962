"""Word the findings about the held-out areas for the plan's screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from trainables.data.defects import excerpt
from trainables.data.independence.support import KNOWLEDGE_SHARE, SUPPORTED_SHARE
from trainables.data.independence.two_sample import FEWEST_GROUPS, SAME_PROCESS_BELOW

if TYPE_CHECKING:
    from trainables.data.independence.examine import AreaReport

# Ours: from this share of an area's items shared templates or runs are a warning, and far items or unsupported
# responses are mentioned.
NOTABLE_SHARE = 0.05
FEWEST_TEMPLATE_ITEMS = 5
# Ours: shared templates are a warning from this multiple of the share among training contexts. On financial reports the
# multiple is 0.92 for the training set's own process and 0.21 for another annotator's questions.
NATURAL_TEMPLATES = 0.5
MOST_SOURCES = 3

AreaFinding = tuple[str, str, str]  # rule, severity ("warning" or "info") and message


def findings(reports: Mapping[str, AreaReport]) -> list[AreaFinding]:
    """The findings about each area, then the informational ones about all areas.

    Args:
        reports: The results of `examine`.
    """
    if not reports:
        return []
    found = [finding for name, report in reports.items() for finding in _against(name, report)]
    knowledge = list(_knowledge(reports))
    found += [*knowledge, *_unproven(reports), *_answer_kinds(reports), *_far_items(reports)]
    found += [] if knowledge else _unsupported(reports)  # which says less of the same
    return [*found, _power(reports)]


def _against(name: str, report: AreaReport) -> Iterator[AreaFinding]:
    """Yields the evidence that an area is not independent of the training set."""
    check = report.two_sample
    if check.verdict == "same_process":
        yield (
            "same_process",
            "warning",
            f"held-out area {name} is indistinguishable from the training data: an i.i.d. test split (classifier of "
            f"{check.compared}: AUC {check.auc:.2f}, 95 % CI {check.low:.2f} to {check.high:.2f}, below "
            f"{SAME_PROCESS_BELOW:g}; {check.items_used} items of {check.groups} contexts); it measures "
            "in-distribution performance only: keep at least one set that other people wrote or collected elsewhere",
        )
    if report.shared_sources:
        listed = ", ".join(
            f"{excerpt(shared.source)} ({shared.items} of {report.items_looked_at} items, {shared.train} of training)"
            for shared in report.shared_sources[:MOST_SOURCES]
        )
        more = f" and {left} more" if (left := len(report.shared_sources) - MOST_SOURCES) > 0 else ""
        yield (
            "shared_source",
            "warning",
            f"held-out area {name} shares sources with training: {listed}{more}; take held-out items from sources "
            "that training does not use",
        )
    overlap = report.template_overlap
    natural = NATURAL_TEMPLATES * overlap.within_train
    stock = check.compared == "prompt and response"  # one question for all samples is the task, not a template
    if overlap.items >= FEWEST_TEMPLATE_ITEMS and overlap.share >= max(NOTABLE_SHARE, natural) and not stock:
        first = overlap.examples[0]
        yield (
            "shared_templates",
            "warning",
            f"held-out area {name} asks by templates of the training set: {overlap.items} of its items "
            f"({overlap.share:.0%}; training contexts among themselves {overlap.within_train:.0%}), such as "
            f"{excerpt(str(first['template']))} ({first['items']} items, {first['train']} of training; # is a "
            "figure, @ a name); let other people word its questions",
        )
    runs = report.shared_runs
    if runs.items:
        example = runs.examples[0]
        yield (
            "shared_context",
            "warning" if runs.share >= NOTABLE_SHARE else "info",
            f"held-out area {name} has {runs.items} items ({runs.share:.0%}) whose context shares a run of 13 words or "
            f"more with a training context, the longest of {runs.longest} words (item "
            f"{excerpt(example['id'])}: {excerpt(example['run'])}); drop them unless it is a stock phrase",
        )


def _unproven(reports: Mapping[str, AreaReport]) -> Iterator[AreaFinding]:
    # No wording here may call an area independent or real: the test cannot show it.
    checks = {name: report.two_sample for name, report in reports.items()}
    small = [
        f"{name} ({check.groups} contexts against {check.train_groups})"
        for name, check in checks.items()
        if check.verdict == "too_small"
    ]
    if small:
        yield (
            "two_sample_too_small",
            "info",
            f"too small to be compared with the training data: {', '.join(small)}; it takes "
            f"{FEWEST_GROUPS} on each side, none with nearly all samples: add items with contexts of their own, or "
            "a key `group` where prompts share no more than an instruction",
        )
    clear = [f"{name} {check.auc:.2f}" for name, check in checks.items() if check.verdict == "no_evidence"]
    if clear:
        yield (
            "no_evidence",
            "info",
            f"differs clearly from the training data (classifier AUC): {', '.join(clear)}; expected of an "
            "out-of-domain set, and no proof of independence, for another topic is enough",
        )


def _answer_kinds(reports: Mapping[str, AreaReport]) -> Iterator[AreaFinding]:
    kinds = {name: report.answer_kinds for name, report in reports.items()}
    unseen = [
        f"{name} ({', '.join(f'{kind} {found.area[kind]:.0%}' for kind in found.only_in_area)})"
        for name, found in kinds.items()
        if found.only_in_area
    ]
    if unseen:
        yield (
            "unseen_answer_kinds",
            "info",
            f"areas that ask for kinds of answers that training does not show: {', '.join(unseen)}; add training "
            "samples of these kinds if the model is to give such answers",
        )
    trained = next(iter(kinds.values())).train
    untested = [kind for kind in trained if all(kind in found.only_in_train for found in kinds.values())]
    if untested:
        listed = ", ".join(f"{kind} {trained[kind]:.0%}" for kind in untested)
        yield (
            "untested_answer_kinds",
            "info",
            f"kinds of training answers that no area asks for ({', '.join(reports)}): {listed}; add items that do, or "
            "nothing shows whether they were learnt",
        )


def _far_items(reports: Mapping[str, AreaReport]) -> Iterator[AreaFinding]:
    far = [
        f"{name} {found.count} of {found.looked_at}"
        for name, report in reports.items()
        if (found := report.far_items) and found.share >= NOTABLE_SHARE
    ]
    if far:
        yield (
            "far_items",
            "info",
            f"items without a close match in the training data: {', '.join(far)}; expected of an out-of-domain set, "
            "in an in-domain one they ask what training does not show",
        )


def _knowledge(reports: Mapping[str, AreaReport]) -> Iterator[AreaFinding]:
    sides = {"data.train": next(iter(reports.values())).train_support}
    sides |= {name: report.support for name, report in reports.items()}
    asking = {name: side for name, side in sides.items() if side and side.share >= KNOWLEDGE_SHARE}
    if asking:
        listed = ", ".join(f"{name} {side.share:.0%} of {side.judged:,} answers" for name, side in asking.items())
        first = next(iter(asking.values()))
        yield (
            "knowledge_answers",
            "warning",
            f"most answers do not follow from their prompts: of {listed} the prompt holds less than "
            f"{SUPPORTED_SHARE:.0%} of the words, such as {'; '.join(first.examples)}. Unless they are translations or "
            "code they ask for knowledge, which a fine-tune seldom teaches: put what an answer needs into its prompt, "
            "or take the result for one of style and form",
        )


def _unsupported(reports: Mapping[str, AreaReport]) -> Iterator[AreaFinding]:
    trained = next(iter(reports.values())).unsupported.train_share
    shares = {"training": trained} | {name: report.unsupported.share for name, report in reports.items()}
    if max(shares.values()) >= NOTABLE_SHARE:
        listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        yield (
            "unsupported_responses",
            "info",
            f"answers that share no word with their prompt (labels, closed-book or arithmetic answers): {listed}; "
            "fine-tuning rarely teaches new facts: check that this is intended",
        )


def _power(reports: Mapping[str, AreaReport]) -> AreaFinding:
    smallest = [
        f"{name} {'none' if (least := report.power.smallest_nll_difference) is None else f'{least:.2f}'} "
        f"({report.power.clusters} contexts)"
        for name, report in reports.items()
    ]
    assumption = next(iter(reports.values())).power.assumption
    return (
        "power",
        "info",
        f"minimum detectable effect between two checkpoints, nats/token at 80 % power: {', '.join(smallest)}; "
        f"4× the contexts halves it (assumed: {assumption})",
    )
