"""A finished sweep with known truth, written as the product writes it and ranked by the product's own `leaderboard`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.output.leaderboard import Leaderboard
from analysis.rank.leaderboard import leaderboard
from benchmarks.confirm.recorded_luck import RecordedLuck

STEPS, TOKENS = 32, 4
ROUNDS = 2  # of replicates


@dataclass(frozen=True)
class PosedTrial:
    """A trial that ended, with one checkpoint at its end if it is complete."""

    trial_id: str
    decades: float  # log10 of its peak LR
    seed: int
    losses: np.ndarray | None  # (items,) nats a token; None for a trial that was not trained to the end
    replicate_of: str | None = None


def rank(trials: Sequence[PosedTrial], areas: np.ndarray, base: np.ndarray) -> Leaderboard:
    """The leaderboard of a sweep.

    Args:
        trials: In the order in which they ended.
        areas: (items,) index of each item's area.
        base: (items,) losses of the base model.
    """
    with tempfile.TemporaryDirectory(prefix="posed-", dir=_memory()) as place:
        folder = Path(place)
        names = [f"area{area}" for area in range(int(areas.max()) + 1)]
        # JSON is YAML.
        config = {"name": "posed", "objective": "posed", "heldout": {"areas": {name: {"path": name} for name in names}}}
        (folder / "sweep.yaml").write_text(json.dumps(config))
        summaries = {name: {"nll": float(base[areas == k].mean())} for k, name in enumerate(names)}
        (folder / "baseline.json").write_text(json.dumps({"areas": summaries}))
        _write_items(folder, "baseline", 0, base, areas)
        lines = []
        for trial in trials:
            if trial.losses is not None:
                _write_items(folder, trial.trial_id, STEPS, trial.losses, areas)
            lines.append(json.dumps(_record(trial)))
        (folder / "trials.jsonl").write_text("\n".join(lines) + "\n")
        return leaderboard(folder)


class World:
    """One posed sweep: LRs, seeds and items drawn at random, and what each setting is worth."""

    def __init__(self, luck: RecordedLuck, settings: int, items: int, seeds: int, number: int) -> None:
        draw = np.random.default_rng([settings, items, seeds, number])
        low, high = luck.decades[0], luck.decades[-1]
        # One setting in each of as many equal parts of the LRs' range, in random order.
        share = (draw.permutation(settings) + draw.uniform(size=settings)) / settings
        self.luck, self.decades = luck, low + (high - low) * share
        self.seeds = [luck.new_seed(draw) for _ in range(seeds + ROUNDS)]
        self.rotation = seeds
        self.items = luck.items(draw, items)
        self.common = luck.worth[:, -1].mean(axis=0)
        self.worth = np.zeros(settings)  # nats a token above the items' common losses

    def trial(self, setting: int, seed: int, replicate: bool = False) -> PosedTrial:
        """A trial of a setting under one of the seeds; replicates have those after the rotation."""
        decades, name = float(self.decades[setting]), f"t{setting + 1:04d}"
        losses = self.common + self.worth[setting] + self.luck.luck_of(decades, self.seeds[seed])
        label = f"{name}-s{seed}" if replicate else name
        return PosedTrial(label, decades, seed, losses[self.items], name if replicate else None)

    def search(self) -> list[PosedTrial]:
        return [self.trial(setting, setting % self.rotation) for setting in range(len(self.decades))]

    def rank(self, trials: Sequence[PosedTrial]) -> Leaderboard:
        return rank(trials, self.luck.area_of[self.items], self.luck.base[self.items])


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _record(trial: PosedTrial) -> dict[str, Any]:
    complete = trial.losses is not None
    return {
        "trial_id": trial.trial_id,
        "state": "complete" if complete else "pruned",
        "kind": "replicate" if trial.replicate_of else "search",
        "replicate_of": trial.replicate_of,
        "seed": trial.seed,
        "params": {"peak_lr": 10**trial.decades, "warmup_fraction": 0.05, "decay_floor": 4.5e-5},
        "steps": STEPS,
        "steps_planned": STEPS,
        "checkpoints": [{"step": STEPS, "path": None}] if complete else [],
    }


def _write_items(folder: Path, name: str, step: int, losses: np.ndarray, areas: np.ndarray) -> None:
    file = folder / "trials" / name / "heldout.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(
        "".join(
            f'{{"step":{step},"area":"area{area}","id":"i{k}","nll":{loss:.6f},"tokens":{TOKENS}}}\n'
            for k, (loss, area) in enumerate(zip(losses.tolist(), areas.tolist(), strict=True))
        )
    )


def called_worse(board: Leaderboard) -> list[str]:
    """The settings that the leaderboard calls worse than the one it names."""
    return [row["trial_id"] for row in board["rows"] if (setting := row.get("setting")) and setting["separated"]]
