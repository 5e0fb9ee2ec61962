"""Recorded loss curves as one file of arrays, written by `benchmarks.recording.__main__` and replayed by the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config.sections import ScheduleConfig
from trainables.optim.lr_schedule import LRSchedule, make_schedule

DATA = Path(__file__).resolve().parents[1] / "data"
PARAMS = ("peak_lr", "warmup_fraction", "decay_floor")
PER_SET = ("base_item_nll", "tokens", "planted")
PER_TRIAL = ("study", "data", "seed", "state", "params", "item_nll", "order", "grad_norm", "heldout")

KEPT_BITS = 13
"""Bits of a loss's mantissa that a file keeps: below 4 nats it is right to 0.25 milli-nats, in half the bytes."""


@dataclass(frozen=True)
class Curves:
    """Trials of one model and batch size, each of one epoch. T trials, N samples, P held-out points, I held-out items.

    Attributes:
        study: (T,) what the trial was recorded for.
        data: (T,) name of its training set.
        seed: (T,) of sample order, adapter and dropout.
        state: (T,) "complete" or "diverged".
        params: (T, 3) `PARAMS`.
        item_nll: (T, N) loss of each sample in the step that trained on it, by place in the epoch; NaN if not reached.
        order: (T, N) which sample that was.
        grad_norm: (T, steps) before clipping.
        heldout: (T, P, I) loss of each held-out item; NaN where not reached.
        points: (P,) fractions of the epoch.
        batch_size: Samples a step.
        areas: Names of the held-out areas.
        area_of: (I,) index of each item's area.
        base_heldout: (I,) the base model's losses.
        sets: Names of the training sets.
        base_item_nll: (sets, N) the base model's loss of each sample.
        tokens: (sets, N) label tokens of each sample.
        planted: (sets, N) whether it was given a wrong answer.
        ids: (N,) the samples' ids, those of all sets.
    """

    study: np.ndarray
    data: np.ndarray
    seed: np.ndarray
    state: np.ndarray
    params: np.ndarray
    item_nll: np.ndarray
    order: np.ndarray
    grad_norm: np.ndarray
    heldout: np.ndarray
    points: np.ndarray
    batch_size: int
    areas: tuple[str, ...]
    area_of: np.ndarray
    base_heldout: np.ndarray
    sets: tuple[str, ...]
    base_item_nll: np.ndarray
    tokens: np.ndarray
    planted: np.ndarray
    ids: np.ndarray

    @property
    def objective(self) -> np.ndarray:
        """(T, P): mean over areas of the items' mean loss; NaN where not reached."""
        return self.over_areas(self.heldout)

    @property
    def base_objective(self) -> float:
        """The base model's."""
        return float(self.over_areas(self.base_heldout))

    def over_areas(self, nll: np.ndarray) -> np.ndarray:
        """(…, I) to (…): every area counts the same."""
        return np.mean([nll[..., self.area_of == area].mean(axis=-1) for area in range(len(self.areas))], axis=0)

    def schedule(self, trial: int) -> LRSchedule:
        """The trial's LR schedule (linear)."""
        params = dict(zip(PARAMS, self.params[trial].tolist(), strict=True))
        return make_schedule(params, ScheduleConfig(), self.grad_norm.shape[1])

    def of(self, chosen: np.ndarray) -> Curves:
        """Some of the trials: a mask or indices."""
        parts = {name: getattr(self, name)[chosen] for name in PER_TRIAL}
        return Curves(**{**vars(self), **parts})


def load(file: Path) -> Curves:
    """Reads what `save` wrote."""
    with np.load(file) as stored:
        fields = {name: stored[name] for name in Curves.__dataclass_fields__}
    names = {name: tuple(fields[name].tolist()) for name in ("areas", "sets")}
    return Curves(**{**fields, **names, "batch_size": int(fields["batch_size"])})


def save(curves: Curves, file: Path) -> None:
    """Writes the file in one piece: beside itself first, then renamed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fields = {name: np.asarray(value) for name, value in vars(curves).items()}
    rounded: dict[str, Any] = {
        name: short(value) if value.dtype == np.float32 else value for name, value in fields.items()
    }
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, **rounded)
    os.replace(partial, file)


def stack(trials: Sequence[dict[str, Any]], common: dict[str, Any]) -> Curves:
    """Trials as records, sorted by study, set, seed and setting, as one.

    Args:
        trials: A record of `PER_TRIAL` each.
        common: The other fields of `Curves`.
    """
    ordered = sorted(trials, key=lambda trial: (trial["study"], trial["data"], trial["seed"], *trial["params"]))
    fields: dict[str, Any] = {name: np.stack([np.asarray(trial[name]) for trial in ordered]) for name in PER_TRIAL}
    return Curves(**common, **fields)


def unstack(curves: Curves) -> list[dict[str, Any]]:
    """The records of `stack`."""
    return [{name: getattr(curves, name)[row] for name in PER_TRIAL} for row in range(len(curves.study))]


def short(values: np.ndarray) -> np.ndarray:
    """float32 to the nearest of `KEPT_BITS` bits of mantissa; what is not finite stays as it is."""
    dropped = 23 - KEPT_BITS
    bits = values.astype(np.float32).view(np.uint32)
    nearest = ((bits + np.uint32(1 << (dropped - 1))) >> dropped) << dropped
    return np.where(np.isfinite(values), nearest.view(np.float32), values)


REGIMES = {"low": (1e-5, 1e-4), "middle": (5e-5, 2e-3), "high": (1e-3, 3e-2)}
"""Peak LRs of a LoRA: below the recommended bounds, within, above; `--scale` moves them for another model."""


GRID_PEAKS = np.geomspace(1e-5, 3e-2, 16)
