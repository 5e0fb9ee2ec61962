"""Scores of a trial by tag: `domain`, `source` and `skill`, keys of the held-out items or of their areas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.records.sweep import Sweep
from analysis.stats.bootstrap import Bootstrap, area_means, make_design, percentile_interval
from trainables.data.independence.tags import MOST_VALUES, TAGS, tags_of
from trainables.storage.layout import CACHE_FOLDER, area_file


@dataclass(frozen=True)
class TagScore:
    """How much better than the base model a checkpoint is on the items of one tag.

    Attributes:
        tag: "domain", "source" or "skill".
        value: Its value.
        items: Items that both scored.
        contexts: Their clusters.
        gain: Mean NLL of the base model less the checkpoint's, nats a token.
        low: Lower end of the gain's 95 % interval, resampled by contexts; NaN for a single context.
        high: Its upper end.
    """

    tag: str
    value: str
    items: int
    contexts: int
    gain: float
    low: float
    high: float


def tag_scores(sweep: Sweep, trial_id: str, step: int) -> list[TagScore]:
    """Compares a checkpoint with the base model by tag, over the areas that select: sealed items stay closed.

    Returns:
        The scores, tag by tag, the largest gain first; empty where no item has a tag with several values, or where the
        base model, the checkpoint or the tokenized areas are missing.
    """
    base, scored = sweep.heldout().by_step.get(0, {}), sweep.heldout(trial_id).by_step.get(step, {})
    keys = sorted(key for key in base.keys() & scored.keys() if key[0] in sweep.weights)
    tags = {area: _item_tags(sweep, area) for area in {area for area, _ in keys}}
    found: list[TagScore] = []
    for tag in TAGS:
        own = [key for key in keys if tag in tags[key[0]].get(key[1], {})]
        values = [tags[area][name][tag] for area, name in own]
        if not 1 < len(set(values)) <= MOST_VALUES:
            continue
        design = make_design(values, [f"{key[0]}\0{base[key].group}" for key in own], dict.fromkeys(values, 1.0))
        gains = np.array([[base[key].nll - scored[key].nll] for key in own])
        draws, means = Bootstrap(design), area_means(design, gains)[:, 0]
        for i in np.argsort(-means, kind="stable"):
            low, high = percentile_interval(draws.area_mean(int(i), gains))[:, 0]
            name = design.areas[i]
            found.append(TagScore(tag, name, values.count(name), design.clusters[i], float(means[i]), low, high))
    return found


def _item_tags(sweep: Sweep, area: str) -> dict[str, dict[str, str]]:
    """The tags of an area's items by id; none where the tokenized area is not there."""
    config = (sweep.config["heldout"]["areas"] or {}).get(area)
    own: Mapping[str, Any] = config if isinstance(config, dict) else {}
    try:
        with pa.memory_map(str(sweep.folder / CACHE_FOLDER / area_file(area))) as source:
            rows = pa.ipc.open_file(source).read_all().select(["id", "meta"]).to_pylist()
    except (OSError, pa.ArrowInvalid, KeyError):
        return {}
    return {row["id"]: tags_of(json.loads(row["meta"]), own) for row in rows}
