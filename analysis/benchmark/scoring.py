"""Scores models on a benchmark, each once, and keeps the results in the storage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from analysis.benchmark.fixed_areas import FixedAreas
from analysis.benchmark.model import Loaded, Model
from analysis.benchmark.other_models import Options, other_model
from analysis.benchmark.storage import AREAS_FILE, Files
from analysis.benchmark.sweep_checkpoints import SweepCheckpoints
from analysis.records.locate import opened
from trainables.errors import UserError
from trainables.storage.json_numbers import finite
from trainables.storage.layout import SWEEP_FILE
from trainables.storage.object_store import is_url

Say = Callable[[str], None]


def fix(files: Files, areas: FixedAreas) -> str:
    """Keeps the areas in the storage, unless they are there; returns their full name."""
    name = areas.full_name
    # To the microsecond: of two versions that a script fixes one after the other, the second is the latest.
    fixed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    files.create(f"{name}/{AREAS_FILE}", {"name": areas.name, "fixed": fixed, "content": areas.to_json()})
    return name


def fixed(files: Files, full_name: str) -> FixedAreas:
    """Reads a benchmark's areas from the storage.

    Raises:
        UserError: The file is gone or damaged.
    """
    where = f"{full_name}/{AREAS_FILE}"
    try:
        record = files.read(where) or {}
        found = FixedAreas.from_json(record["name"], record["content"])
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(where, "must hold the areas as they were fixed", repr(error), "restore the file") from None
    if found.full_name != full_name:
        got = f"items of {found.full_name}"
        raise UserError(where, "must hold the items that its hash names", got, "restore the file")
    return found


def score_all(files: Files, full_name: str, wanted: Sequence[str], options: Options, say: Say) -> None:
    """Scores the models that `--models` names on a fixed benchmark; those that are scored already cost nothing.

    All names are looked up before the first model is loaded.

    Args:
        files: The storage.
        full_name: The benchmark.
        wanted: `SWEEP_DIR[:TRIAL[:STEP]]`, a folder, or a hub id.
        options: Of models of no sweep.
        say: Takes lines of progress.

    Raises:
        UserError: A name is wrong, or a model can't be loaded or asked.
    """
    areas, sweeps = fixed(files, full_name), dict[str, SweepCheckpoints]()
    with ExitStack() as stack:
        named = [(model, sweep) for text in wanted for model, sweep in _named(text, options, sweeps, stack)]
        before: SweepCheckpoints | None = None
        for model, sweep in named:
            if before and before is not sweep:
                before.close()  # two base models may not fit into memory
            before = sweep
            _score(files, full_name, areas, model, say)


def _named(
    text: str, options: Options, sweeps: dict[str, SweepCheckpoints], stack: ExitStack
) -> Iterator[tuple[Model, SweepCheckpoints | None]]:
    place, trial, step = split_name(text, _is_sweep)
    if place is None:
        yield other_model(text, options), None
        return
    if place not in sweeps:
        sweeps[place] = SweepCheckpoints(stack.enter_context(opened(place)))
    try:
        for model in sweeps[place].models(trial, step):
            yield model, sweeps[place]
    except UserError as error:
        if error.where not in ("--trial", "--step"):  # options of an export
            raise
        raise UserError(f"--models {text}", error.rule, error.got, error.remedy) from None


def split_name(text: str, is_sweep: Callable[[str], bool]) -> tuple[str | None, str | None, str | None]:
    """Splits `SWEEP_DIR[:TRIAL[:STEP]]` into its parts; None for the place of what is no sweep.

    A folder's own name may hold colons: the longest part that is a sweep counts.
    """
    for colons in range(3):
        place, *rest = text.rsplit(":", colons)
        if place and all(rest) and len(rest) == colons and is_sweep(place):
            trial, step = (*rest, None, None)[:2]
            return place, trial, step
    return None, None, None


def _is_sweep(place: str) -> bool:
    if not is_url(place):
        return (Path(place).expanduser() / SWEEP_FILE).is_file()
    # The parts of a URL hold no colon; whether a sweep is there is found when it is opened.
    return ":" not in place.partition("://")[2]


def _score(files: Files, full_name: str, areas: FixedAreas, model: Model, say: Say) -> None:
    keys = {area: f"{full_name}/scores/{model.key}/{area}.json" for area in areas.samples}
    loaded: Loaded | None = None
    # Only one process works on a model; another one waits, and then finds its scores.
    with files.alone(f"{full_name}/scores/{model.key}"):
        for area, key in keys.items():
            if files.read(key) is not None:
                continue
            loaded = loaded or model.load()
            say(f"{model.label}: {area}, {len(areas.samples[area])} items")
            files.create(key, _results(areas, area, model, loaded))
        if loaded is None:
            say(f"{model.label}: scored already")
        entry = {"label": model.label, "key": model.key, "scored": _now(), **model.facts}
        files.create(f"{full_name}/models/{model.file}", entry)


def _results(areas: FixedAreas, area: str, model: Model, loaded: Loaded) -> dict[str, object]:
    from trainables.evaluation.fixed_items import score_samples

    sizes = {"batch_tokens": loaded.batch_tokens, "answer_batch_size": loaded.answer_batch_size}
    heldout = areas.heldout.model_copy(update=sizes)
    try:
        found, tokens = score_samples(loaded.model, loaded.tokenizer, areas.samples[area], area, heldout, loaded.data)
    except UserError as error:
        raise UserError(f"{model.label}, {error.where}", error.rule, error.got, error.remedy) from None
    return finite({"tokens_sha256": tokens, "items": [asdict(one) for one in found]})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
