"""Tokenized sets for `benchmarks.recording`, and training sets with planted wrong answers."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config.data_sections import FieldNames
from trainables.config.sections import ModelConfig
from trainables.data.samples import Sample, parse_sample
from trainables.data.sources import read_raw
from trainables.data.tokenization import tokenize
from trainables.models.pretrained import load_tokenizer, resolve_model

PLANTED_FRACTION = 0.05


def prepare(options: Namespace) -> None:
    """Writes `train.arrow`, `heldout-AREA.arrow`, `planted-K.arrow` and their description, `prepared.json`."""
    options.to.mkdir(parents=True, exist_ok=True)
    model = resolve_model(ModelConfig(name=options.model), options.to.parent)
    tokenizer = load_tokenizer(model)

    def write(samples: list[Sample], name: str) -> int:
        return tokenize(samples, tokenizer, options.template, options.max_tokens, options.to / f"{name}.arrow").samples

    train = some(read_samples(options.train), options.limit)
    counts = {"train": write(train, "train")}
    for file in options.heldout:
        name = f"heldout-{Path(file).stem}"
        counts[name] = write(some(read_samples(str(file)), options.heldout_limit), name)
    planted: dict[str, Any] = {}
    for number in range(options.plantings):
        wrong, exchanged = plant(train, number)
        counts[f"planted-{number}"] = write(wrong, f"planted-{number}")
        planted[f"planted-{number}"] = exchanged
    said = {"model": str(model), "template": options.template, "samples": counts, "planted": planted}
    (options.to / "prepared.json").write_text(json.dumps(said, indent=1))
    print(f"{options.to}: {counts}")


def read_samples(path: str) -> list[Sample]:
    """All samples of a sound file, in order.

    Raises:
        ValueError: A line holds no sample.
    """
    samples = []
    for line in read_raw(path, FieldNames(), "train"):
        found = parse_sample(path, line, FieldNames())
        if not isinstance(found, Sample):
            raise ValueError(f"{path} must hold samples, got {found}")
        samples.append(found)
    return samples


def some(samples: list[Sample], limit: int | None) -> list[Sample]:
    """Draws samples without replacement, with a fixed seed, in the file's order."""
    if limit is None or limit >= len(samples):
        return samples
    chosen = np.random.default_rng(0).permutation(len(samples))[:limit]
    return [samples[place] for place in sorted(chosen.tolist())]


def plant(samples: list[Sample], seed: int) -> tuple[list[Sample], list[str]]:
    """Replaces the answer of one sample in twenty by a different one of its kind.

    Returns:
        All samples, and the ids of those with a wrong answer.
    """
    draw = np.random.default_rng([13, seed])
    by_kind = defaultdict(list)
    for place, sample in enumerate(samples):
        by_kind[kind(sample)].append(place)
    wrong, exchanged = list(samples), []
    for place in draw.permutation(len(samples))[: round(PLANTED_FRACTION * len(samples))].tolist():
        own = samples[place]
        others = [samples[other].response for other in by_kind[kind(own)] if samples[other].response != own.response]
        if others:
            answer = {**own.messages[-1], "content": others[int(draw.integers(len(others)))]}
            wrong[place] = replace(own, messages=[*own.messages[:-1], answer])
            exchanged.append(own.id)
    return wrong, sorted(exchanged)


def kind(sample: Sample) -> str:
    """Kind of an answer: the letters of the sample's id, and number, yes/no or text."""
    answer = sample.response.strip().lower()
    form = "number" if re.search(r"\d", answer) else "yesno" if answer.rstrip(".") in ("yes", "no") else "text"
    return f"{re.sub(r'[^a-z]+', '-', sample.id.lower())} {form}"
