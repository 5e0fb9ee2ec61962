"""The luck of seeds by item and LR, as recorded (study `seeds` of `benchmarks.recording`), and new seeds like them.

A new seed is a random combination of the recorded ones that keeps their covariance between LRs, points of the epoch
and items. Between recorded LRs both worth and luck are interpolated, in the logarithm of the LR; luck is a little less
there than at the recorded ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.recording.curves import load

Array = np.ndarray


@dataclass(frozen=True)
class RecordedLuck:
    """L settings that differ in the LR, S seeds, P points of the epoch, I held-out items."""

    decades: Array  # (L,) log10 of the peak LRs, ascending
    worth: Array  # (L, P, I) means over seeds, nats a token
    luck: Array  # (L, S, P, I) what each seed adds
    points: Array  # (P,) fractions of the epoch
    area_of: Array  # (I,)
    base: Array  # (I,) losses of the base model

    @classmethod
    def read(cls, path: Path) -> RecordedLuck:
        """Reads a recording.

        Raises:
            ValueError: A setting lacks a seed.
        """
        curves = load(path)
        curves = curves.of((curves.study == "seeds") & (curves.state == "complete"))
        lrs, lr = np.unique(curves.params[:, 0], return_inverse=True)
        seeds, seed = np.unique(curves.seed, return_inverse=True)
        losses = np.full((len(lrs), len(seeds), *curves.heldout.shape[1:]), np.nan)
        losses[lr, seed] = curves.heldout
        if not np.isfinite(losses).all():
            raise ValueError(f"{path}: every one of {len(lrs)} settings must have every one of {len(seeds)} seeds")
        worth = losses.mean(axis=1)
        luck = losses - worth[:, None]
        return cls(np.log10(lrs), worth, luck, curves.points, curves.area_of, curves.base_heldout)

    def new_seed(self, draw: np.random.Generator) -> Array:
        """(S,) coefficients of the recorded seeds in a new one."""
        seeds = self.luck.shape[1]
        return draw.normal(size=seeds) / np.sqrt(seeds - 1)

    def luck_of(self, decades: float, seed: Array, point: int = -1) -> Array:
        """(I,) what a seed adds to each item's loss at an LR and a point of the epoch."""
        return seed @ self._between(self.luck[:, :, point], decades)

    def worth_of(self, decades: float, point: int = -1) -> Array:
        """(I,) each item's loss at an LR and a point of the epoch, with the luck of seeds left out."""
        return self._between(self.worth[:, point], decades)

    def sd(self, decades: float) -> float:
        """Standard deviation of the final objective between seeds, nats a token."""
        by_seed = self._between(self.luck[:, :, -1], decades)
        return float(np.std([self.objective(losses) for losses in by_seed], ddof=1))

    def objective(self, losses: Array, items: Array | slice = slice(None)) -> float:
        """Mean over areas of the items' mean loss; `items` are the indices of those in `losses`."""
        areas = self.area_of[items]
        return float(np.mean([losses[areas == area].mean() for area in np.unique(areas)]))

    def items(self, draw: np.random.Generator, number: int) -> Array:
        """Indices of so many items, each area's drawn with replacement; all once where they are as many."""
        if number == len(self.area_of):
            return np.arange(number)
        areas = np.unique(self.area_of)
        return np.concatenate(
            [draw.choice(np.flatnonzero(self.area_of == area), number // len(areas)) for area in areas]
        )

    def _between(self, values: Array, decades: float) -> Array:
        after = int(np.clip(np.searchsorted(self.decades, decades), 1, len(self.decades) - 1))
        low, high = self.decades[after - 1], self.decades[after]
        share = float(np.clip((decades - low) / (high - low), 0.0, 1.0))
        return np.asarray((1 - share) * values[after - 1] + share * values[after])
