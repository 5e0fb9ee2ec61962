"""Noise of seeds between trials of one sweep, as recorded: `benchmarks/data/curves_tiny.npz`, study `seeds`.

Eight settings of the tiny model were each trained with the same eight seeds. The residuals of their objectives after
setting and seed effects are scaled to a standard deviation of 1 and replayed, with their skew and outliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.recording.curves import DATA, load

CURVES = DATA / "curves_tiny.npz"
NEIGHBORS = 4  # as many settings as contend at most; contenders lie near each other


@dataclass(frozen=True)
class SeedNoise:
    """Effects of seeds on windows of neighboring settings."""

    # (windows, settings, seeds): mean 0 over seeds, standard deviation 1 in each window without the seed's own effect
    residual: np.ndarray
    shared: np.ndarray  # (windows, seeds): the seed's effect on all settings of a window, in the same unit

    @classmethod
    def read(cls, path: Path = CURVES) -> SeedNoise:
        """Reads the last checkpoints of the study `seeds`."""
        curves = load(path)
        curves = curves.of((curves.study == "seeds") & (curves.state == "complete"))
        lrs, lr = np.unique(curves.params[:, 0], return_inverse=True)
        seeds, seed = np.unique(curves.seed, return_inverse=True)
        table = np.full((len(lrs), len(seeds)), np.nan)
        table[lr, seed] = curves.objective[:, -1]
        return cls.of(table)

    @classmethod
    def of(cls, table: np.ndarray) -> SeedNoise:
        """From objectives, (settings, seeds), in an order in which neighbors are similar.

        Raises:
            ValueError: A setting lacks a seed, or there are fewer settings than `NEIGHBORS`.
        """
        if np.isnan(table).any() or len(table) < NEIGHBORS:
            raise ValueError(f"every one of at least {NEIGHBORS} settings must have every seed, got {table.shape}")
        centred = table - table.mean(axis=1, keepdims=True)
        windows = np.stack([centred[i : i + NEIGHBORS] for i in range(len(table) - NEIGHBORS + 1)])
        shared = windows.mean(axis=1)
        residual = windows - shared[:, None]
        # A draw has the table's own variance; one degree of freedom a seed went into `shared`.
        squares = (residual**2).sum(axis=(1, 2)) / ((NEIGHBORS - 1) * table.shape[1])
        sd = np.sqrt(squares)
        return cls(residual / sd[:, None, None], shared / sd[:, None])

    def search(self, draw: np.random.Generator, window: int, trials: int) -> np.ndarray:
        """Noise of a search's trials, (trials,): different settings with one seed, whose own effect is left out.

        Neighbors share a seed's effect; an effect on the whole search changes no comparison.
        """
        picked = draw.integers(self.residual.shape[1], size=trials), draw.integers(self.residual.shape[2], size=trials)
        return self.residual[window][picked] * np.sqrt(NEIGHBORS / (NEIGHBORS - 1))

    def round(self, draw: np.random.Generator, window: int, contenders: int) -> np.ndarray:
        """Noise of a round, (contenders,): all contenders have the same new seed.

        Each round assigns the settings' noise to contenders at random, so that eight seeds make more than eight rounds.
        All contenders are then equally noisy, as the method assumes.
        """
        seed = int(draw.integers(self.residual.shape[2]))
        places = draw.permutation(self.residual.shape[1])[:contenders]
        return self.residual[window][places, seed] + self.shared[window, seed]
