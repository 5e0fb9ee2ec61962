"""Audits, compares and tokenizes all data sets of a sweep, once, into files that every lane maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.config.sweep_config import SweepConfig
from sweeps.plan.data_findings import tag_findings, unread_findings
from sweeps.plan.findings import Finding
from trainables.config.data_sections import Scorer
from trainables.data.audit.audit import Audit, AuditSource, audit, kept_samples
from trainables.data.audit.report import SetAudit
from trainables.data.epoch import epoch_order
from trainables.data.independence.examine import examine
from trainables.data.independence.findings import findings as reality_findings
from trainables.data.independence.tags import TAGS, TagCounts, count_tags
from trainables.data.samples import Item, Sample
from trainables.data.template.chat_template import use_chat_template
from trainables.data.template.message_marks import without_thought
from trainables.data.template.rendering import NOTES
from trainables.data.tokenization import ShownSample, Tokenized, tokenize
from trainables.errors import UserError, UserErrors
from trainables.evaluation.objective import NLL
from trainables.evaluation.scorers import load_scorers, reference_errors
from trainables.storage.layout import CHAT_TEMPLATE_FILE, TRAIN_FILE, area_file


@dataclass(frozen=True)
class SetPlan:
    """Counts of a tokenized data set."""

    path: str
    samples: int
    tokens: int
    label_tokens: int
    longest_tokens: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class Prepared:
    """All data sets of a sweep; areas by name."""

    train: SetPlan
    areas: dict[str, SetPlan]
    audit: Audit
    reality: dict[str, Any]  # `trainables.data.independence.examine.AreaReport` as plain values, by area
    findings: list[Finding]  # about keys, tags, held-out areas and the template
    shown: list[ShownSample]  # the first training samples as the model sees them
    padding: float  # fraction of the epoch's padded batches
    tags: dict[str, TagCounts]  # of "data.train" and each area


@dataclass(frozen=True)
class Source:
    """A data set of the config, its file of tokens, and the scorers of its answers."""

    read: AuditSource
    target: str
    scorers: list[Scorer] = field(default_factory=list)


def prepare_data(config: SweepConfig, tokenizer: Any, cache: Path) -> Prepared:
    """Audits every data set, tries all references on their scorers, compares areas with training, and tokenizes.

    Lines that the config forbids (`data.on_defect`: fail) don't raise: they are in `Audit.failures`.

    Raises:
        UserErrors: A data set is empty after the audit, or references fail on their scorers; all mistakes together.
    """
    data = config.data
    train = Source(AuditSource("data.train", data.train, data.limit, data.split, data.format), TRAIN_FILE)
    areas = _area_sources(config)
    found = audit(
        train.read,
        {name: source.read for name, source in areas.items()},
        config.data.fields,
        config.data.on_defect.model_dump(),
    )
    audits = list(found.sets())
    sources = [train, *areas.values()]
    samples = [kept_samples(s.read, config.data.fields, a) for s, a in zip(sources, audits, strict=True)]
    _refuse_empty(samples, found)
    _check_references(sources, samples, config.objective.metric)
    if data.chat_template is not None:
        use_chat_template(tokenizer, data.chat_template, cache / CHAT_TEMPLATE_FILE)
    done = [
        tokenize(
            kept,
            tokenizer,
            data.template,
            data.max_tokens,
            cache / source.target,
            data.template_args,
            data.train_on_template_text,
        )
        for source, kept in zip(sources, samples, strict=True)
    ]
    # Only the tokenizer knows which samples are too long; the audit judges them.
    for source, tokenized in zip(sources, done, strict=True):
        too_long = {item.line: item.tokens for item in tokenized.too_long}
        found.add_too_long(source.read.where, too_long, config.data.max_tokens)
    _refuse_empty([tokenized.samples for tokenized in done], found)
    plans = [_set_plan(*parts) for parts in zip(sources, done, audits, strict=True)]
    tags = _tags(config, samples)
    reports = examine(samples[0], dict(zip(areas, samples[1:], strict=True)))
    return Prepared(
        train=plans[0],
        areas=dict(zip(areas, plans[1:], strict=True)),
        audit=found,
        reality={name: asdict(report) for name, report in reports.items()},
        findings=[
            *unread_findings(found),
            *tag_findings(config, tags),
            *_template_findings(sources, done),
            *(Finding(*parts) for parts in reality_findings(reports)),
        ],
        shown=list(done[0].shown),
        padding=_padding(done[0].lengths, config),
        tags=tags,
    )


def _area_sources(config: SweepConfig) -> dict[str, Source]:
    return {
        name: Source(
            AuditSource(f"heldout.areas.{name}", area.path, area.limit, config.data.split, config.data.format),
            area_file(name),
            area.scorers,
        )
        for name, area in config.heldout.areas.items()
    }


def _tags(config: SweepConfig, samples: Sequence[list[Sample]]) -> dict[str, TagCounts]:
    areas = {name: area.model_dump(include=set(TAGS)) for name, area in config.heldout.areas.items()}
    own = {"data.train": {}, **areas}
    return {name: count_tags(kept, of_area) for (name, of_area), kept in zip(own.items(), samples, strict=True)}


def _refuse_empty(kept: Sequence[Any], found: Audit) -> None:
    if not all(kept):
        raise UserErrors(found.failures())


def _check_references(sources: Sequence[Source], samples: Sequence[list[Sample]], metric: str) -> None:
    # A reference that its own scorer can't score would fail in the middle of the sweep.
    errors: list[UserError] = []
    for source, kept in zip(sources, samples, strict=True):
        try:
            scorers = load_scorers(source.scorers, f"{source.read.where}.scorers")
        except UserError as error:
            errors.append(error)
            continue
        asked = [sample for sample in kept if sample.text is None]
        if metric != NLL and len(asked) < len(kept) and source is not sources[0]:
            got = f"{len(kept) - len(asked):,} rows of plain text"
            rule, remedy = f"must ask in every row where {metric} decides", "set objective.metric: nll"
            errors.append(UserError(source.read.where, rule, got, remedy))
        items = (Item(sample.id, sample.prompt, without_thought(sample.response), sample.meta) for sample in asked)
        # A function of the user's may fail on all items in one way: one line for it.
        lines: dict[tuple[str, str], UserError] = {}
        for line in reference_errors(items, scorers):
            lines.setdefault((line.where, line.rule), line)
        errors.extend(lines.values())
    if errors:
        raise UserErrors(errors)


def _template_findings(sources: Sequence[Source], done: Sequence[Tokenized]) -> list[Finding]:
    # One finding for what a template does, with the sets that it concerns.
    where: dict[tuple[str, str], list[str]] = {}
    for source, tokenized in zip(sources, done, strict=True):
        for note, count in tokenized.notes.items():
            told_once = note[0] == "template_text"
            where.setdefault(note, []).append(source.read.where + ("" if told_once else f" ({count:,} samples)"))
    return [
        Finding(name, "warning", f"{NOTES[name].format(what=what)}; {', '.join(sets)}")
        for (name, what), sets in where.items()
    ]


def _set_plan(source: Source, done: Tokenized, found: SetAudit) -> SetPlan:
    return SetPlan(
        path=source.read.path,
        samples=done.samples,
        tokens=done.tokens,
        label_tokens=done.label_tokens,
        longest_tokens=int(done.lengths.max()),
        dropped=found.dropped,
    )


def _padding(lengths: np.ndarray, config: SweepConfig) -> float:
    order, size = epoch_order(len(lengths), config.seed), config.training.batch_size
    batches = [lengths[order[start : start + size]] for start in range(0, len(order), size)]
    return 1.0 - float(lengths.sum()) / float(sum(batch.max() * len(batch) for batch in batches))
