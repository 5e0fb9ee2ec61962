"""Recorded loss curves as one file of arrays."""

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

# Bits of a loss's mantissa that a file keeps: below 4 nats it is right to 0.25 milli-nats, in half the bytes.
KEPT_BITS = 13


@dataclass(frozen=True)
class Curves:
    """T trials of one model and batch size, an epoch each: N samples, P held-out points, I held-out items."""

    study: np.ndarray  # (T,) what the trial was recorded for
    data: np.ndarray  # (T,) name of its training set
    seed: np.ndarray  # (T,) of sample order, adapter and dropout
    state: np.ndarray  # (T,) "complete" or "diverged"
    params: np.ndarray  # (T, 3) `PARAMS`
    # (T, N) loss of each sample in the step that trained on it, by place in the epoch; NaN if not reached
    item_nll: np.ndarray
    order: np.ndarray  # (T, N) which sample that was
    grad_norm: np.ndarray  # (T, steps) before clipping
    heldout: np.ndarray  # (T, P, I) loss of each held-out item; NaN where not reached
    points: np.ndarray  # (P,) fractions of the epoch
    batch_size: int  # samples a step
    areas: tuple[str, ...]  # names of the held-out areas
    area_of: np.ndarray  # (I,) index of each item's area
    base_heldout: np.ndarray  # (I,) the base model's losses
    sets: tuple[str, ...]  # names of the training sets
    base_item_nll: np.ndarray  # (sets, N) the base model's loss of each sample
    tokens: np.ndarray  # (sets, N) label tokens of each sample
    planted: np.ndarray  # (sets, N) whether it was given a wrong answer
    ids: np.ndarray  # (N,) the samples' ids, those of all sets

    @property
    def objective(self) -> np.ndarray:
        """(T, P) mean over areas of the items' mean loss; NaN if not reached."""
        return self.over_areas(self.heldout)

    @property
    def base_objective(self) -> float:
        return float(self.over_areas(self.base_heldout))

    def over_areas(self, nll: np.ndarray) -> np.ndarray:
        """Means over items, then areas with equal weights: (…, I) to (…)."""
        return np.mean([nll[..., self.area_of == area].mean(axis=-1) for area in range(len(self.areas))], axis=0)

    def schedule(self, trial: int) -> LRSchedule:
        params = dict(zip(PARAMS, self.params[trial].tolist(), strict=True))
        return make_schedule(params, ScheduleConfig(), self.grad_norm.shape[1])

    def of(self, chosen: np.ndarray) -> Curves:
        """Selects trials by a mask or indices."""
        parts = {name: getattr(self, name)[chosen] for name in PER_TRIAL}
        return Curves(**{**vars(self), **parts})


def load(file: Path) -> Curves:
    with np.load(file) as stored:
        fields = {name: stored[name] for name in Curves.__dataclass_fields__}
    names = {name: tuple(fields[name].tolist()) for name in ("areas", "sets")}
    return Curves(**{**fields, **names, "batch_size": int(fields["batch_size"])})


def save(curves: Curves, file: Path) -> None:
    """Writes the file atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fields = {name: np.asarray(value) for name, value in vars(curves).items()}
    rounded: dict[str, Any] = {
        name: short(value) if value.dtype == np.float32 else value for name, value in fields.items()
    }
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, **rounded)
    os.replace(partial, file)


def stack(trials: Sequence[dict[str, Any]], common: dict[str, Any]) -> Curves:
    """Joins trials, sorted by study, set, seed and setting.

    Args:
        trials: Records with `PER_TRIAL`.
        common: The other fields of `Curves`.
    """
    ordered = sorted(trials, key=lambda trial: (trial["study"], trial["data"], trial["seed"], *trial["params"]))
    fields: dict[str, Any] = {name: np.stack([np.asarray(trial[name]) for trial in ordered]) for name in PER_TRIAL}
    return Curves(**common, **fields)


def unstack(curves: Curves) -> list[dict[str, Any]]:
    """The inverse of `stack`."""
    return [{name: getattr(curves, name)[row] for name in PER_TRIAL} for row in range(len(curves.study))]


def short(values: np.ndarray) -> np.ndarray:
    """Rounds float32 to `KEPT_BITS` bits of mantissa; non-finite values stay."""
    dropped = 23 - KEPT_BITS
    bits = values.astype(np.float32).view(np.uint32)
    nearest = ((bits + np.uint32(1 << (dropped - 1))) >> dropped) << dropped
    return np.where(np.isfinite(values), nearest.view(np.float32), values)


# Peak LRs of a LoRA: below the recommended bounds, within, above; `--scale` moves them for another model.
REGIMES = {"low": (1e-5, 1e-4), "middle": (5e-5, 2e-3), "high": (1e-3, 3e-2)}


GRID_PEAKS = np.geomspace(1e-5, 3e-2, 16)
