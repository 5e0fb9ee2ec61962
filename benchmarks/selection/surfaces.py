"""Loss surfaces to search without training, known without noise.

They are fitted to LoRA fine-tunes of other people's models (`../shared/data/lr_surfaces`): for each model and rank a
smooth curve in log LR. Warm-up and floor have no effect.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import PROJECT
from trainables.config.sections import Params

LR_SURFACES = PROJECT.parent / "shared" / "data" / "lr_surfaces" / "lora_sft.jsonl"

# The LRs of the source's sweep; a highest one that is missing diverged there and is left out of its table.
LOWEST_LR, HIGHEST_LR = 4e-5, 3e-3
# Nats a token above a surface's lowest value that the untouched base model is put at. Not in the source; ours.
BASE_ABOVE_BEST = 0.3
# Decades by which a surface is moved along the LR, at most; no method can then know where its optimum lies.
JITTER = 0.15
# A cubic needs a free degree or it goes through its knots: it takes this many different LRs, a quadratic one fewer.
CUBIC_LRS = 5


@dataclass(frozen=True)
class Surface:
    """The objective of every setting, without noise."""

    name: str  # the model and the rank
    group: str  # the model; surfaces of one model resemble each other
    curve: np.ndarray  # polynomial in log10 of the LR (highest power first)
    cliff: float  # log10 of the LR above which a trial diverges, before the shift
    base: float  # the base model's objective, and a diverged trial's
    shift: float = 0.0  # decades by which it is moved to higher LRs

    def moved(self, shift: float) -> Surface:
        return Surface(self.name, self.group, self.curve, self.cliff, self.base, shift)

    def diverges(self, params: Params) -> bool:
        return math.log10(params["peak_lr"]) - self.shift > self.cliff

    def loss(self, params: Params) -> float:
        """Objective of a setting, nats a token."""
        return self.base if self.diverges(params) else float(np.polyval(self.curve, self._log_lr(params)))

    def best(self) -> float:
        """Lowest objective in the searched range of LRs, to within a thousandth of a milli-nat."""
        lrs = np.geomspace(LOWEST_LR, HIGHEST_LR, 4001)
        return min(self.loss({"peak_lr": lr}) for lr in lrs)

    def _log_lr(self, params: Params) -> float:
        return math.log10(params["peak_lr"]) - self.shift


def space() -> dict[str, Any]:
    return {
        "peak_lr": {"low": LOWEST_LR, "high": HIGHEST_LR, "log": True},
        "warmup_fraction": {"low": 0.03, "high": 0.10},
        "decay_floor": {"low": 4e-5, "high": 5e-5},
        "beyond_recommended": "the LRs of the surfaces' source",
    }


def measured_surfaces(path: Path = LR_SURFACES) -> list[Surface]:
    """Fits a surface for each model and rank with four LRs or more.

    Raises:
        FileNotFoundError: The data are missing.
    """
    return [
        surface
        for (model, rank), points in sorted(_measured(path).items())
        if (surface := _fit(f"{model} r{rank}", model, points))
    ]


def _measured(path: Path) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """Pairs of LR and test NLL by model and rank."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault((row["model"], row["lora_rank"]), []).append((row["learning_rate"], row["test_nll"]))
    return found


def _fit(name: str, model: str, points: list[tuple[float, float]]) -> Surface | None:
    """Fits by least squares, without points far enough above the lowest to count as diverged."""
    lowest = min(loss for _, loss in points)
    base = lowest + BASE_ABOVE_BEST
    stable = np.array([(math.log10(lr), loss) for lr, loss in points if loss < base])
    distinct = len(np.unique(stable[:, 0]))
    if distinct < CUBIC_LRS - 1:
        return None
    curve = np.polyfit(stable[:, 0], stable[:, 1], 3 if distinct >= CUBIC_LRS else 2)
    highest = float(stable[:, 0].max())
    # Half-way, in log LR, between the highest LR that did not diverge and the one that did.
    cliff = math.inf if highest >= math.log10(HIGHEST_LR) else 0.5 * (highest + math.log10(HIGHEST_LR))
    return Surface(name, model, curve, cliff, base)


def halves(surfaces: list[Surface]) -> tuple[list[Surface], list[Surface]]:
    """Splits the surfaces by model, alternating: those for tuning the search, and those for judging it."""
    groups = sorted({surface.group for surface in surfaces})
    tuning = set(groups[::2])
    return [s for s in surfaces if s.group in tuning], [s for s in surfaces if s.group not in tuning]


def jittered(surfaces: list[Surface], seeds: int) -> Iterator[Surface]:
    """Moves the optimum of every surface by up to `JITTER` decades, once a seed."""
    for number, surface in enumerate(surfaces):
        for seed in range(seeds):
            yield surface.moved(float(np.random.default_rng([seed, number]).uniform(-JITTER, JITTER)))
