"""All data sets of a sweep, read and tokenised once, into files that every lane maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.config import SweepConfig
from trainables.config import Scorer
from trainables.errors import UserError, UserErrors
from trainables.samples import read_samples
from trainables.scorers import Item, load_scorers, reference_errors
from trainables.tokenise import Tokenised, tokenise

TRAIN_FILE = "train.arrow"


def area_file(area: str) -> str:
    """Name of an area's tokenised file."""
    return f"heldout-{area}.arrow"


@dataclass(frozen=True)
class SetPlan:
    """One tokenised data set, in numbers."""

    path: str
    samples: int
    tokens: int
    label_tokens: int
    longest_tokens: int
    dropped: list[dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """One data set that the config names: where it is named, what is read of it, and what scores its answers."""

    where: str
    path: str
    limit: int | None
    target: str
    scorers: list[Scorer] = field(default_factory=list)


def tokenise_all(config: SweepConfig, tokenizer: Any, cache: Path) -> tuple[SetPlan, dict[str, SetPlan]]:
    """Reads and tokenises every data set and tries every area's references on its scorers.

    Args:
        config: The sweep.
        tokenizer: The model's.
        cache: Folder for the tokenised files.

    Returns:
        The training set and each area.

    Raises:
        UserErrors: The mistakes of all data sets together.
    """
    errors: list[UserError] = []
    sets: list[SetPlan] = []
    for source in _sources(config):
        try:
            sets.append(_tokenise(source, config, tokenizer, cache))
        except UserErrors as found:
            errors.extend(found.errors)
        except UserError as error:
            errors.append(error)
    if errors:
        raise UserErrors(errors)
    return sets[0], dict(zip(config.heldout.areas, sets[1:], strict=True))


def _sources(config: SweepConfig) -> Iterator[Source]:
    yield Source("data.train", config.data.train, config.data.limit, TRAIN_FILE)
    for name, area in config.heldout.areas.items():
        yield Source(f"heldout.areas.{name}", area.path, area.limit, area_file(name), area.scorers)


def _tokenise(source: Source, config: SweepConfig, tokenizer: Any, cache: Path) -> SetPlan:
    scorers = load_scorers(source.scorers, f"{source.where}.scorers")
    samples = read_samples(source.path, config.data.fields, config.data.split)[: source.limit]
    items = (Item(sample.id, sample.prompt, sample.response, sample.meta) for sample in samples)
    if wrong := reference_errors(items, scorers):
        raise UserErrors(wrong)
    done = tokenise(
        samples,
        tokenizer,
        config.data.template,
        config.data.max_tokens,
        cache / source.target,
        on_too_long=config.data.on_defect.too_long,
        where=source.where,
    )
    return _set_plan(source.path, done)


def _set_plan(path: str, done: Tokenised) -> SetPlan:
    return SetPlan(
        path=path,
        samples=done.samples,
        tokens=done.tokens,
        label_tokens=done.label_tokens,
        longest_tokens=int(done.lengths.max()),
        dropped=[{"id": item.id, "line": item.line, "tokens": item.tokens} for item in done.too_long],
    )
