"""Writes synthetic sweeps in the contract's form, with losses that are known in closed form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml


@dataclass
class FakeTrial:
    """A trial whose items' losses lie `gain` below the base model's, give or take `noise` (sd, item by item)."""

    trial_id: str
    gains: dict[int, float] = field(default_factory=dict)  # by step
    state: str = "complete"
    noise: float = 0.02
    params: dict[str, float] = field(default_factory=lambda: {"peak_lr": 3e-4, "warmup_fraction": 0.05})
    extra: dict[str, Any] = field(default_factory=dict)


WriteSweep = Callable[..., Path]


@pytest.fixture
def write_sweep(tmp_path: Path) -> WriteSweep:
    """Returns a function that writes a sweep in the contract's form and gives its folder."""

    def write(
        trials: list[FakeTrial],
        weights: Mapping[str, float] | None = None,
        items: int = 40,
        base: bool = True,
        name: str = "sweep",
        model: dict[str, Any] | None = None,
    ) -> Path:
        weights = weights or {"invoices": 1.0, "tables": 1.0}
        folder = tmp_path / name
        config = {
            "name": name,
            "objective": "Answer questions on small tables.",
            "model": model or {"name": "random:tiny-llama", "method": "lora"},
            "heldout": {"areas": {area: {"path": f"{area}.jsonl", "weight": w} for area, w in weights.items()}},
        }
        (folder / "trials").mkdir(parents=True)
        (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
        rng = np.random.default_rng(0)
        losses = {area: rng.normal(2.0, 1.0, items) for area in weights}
        if base:
            write_items(folder, "baseline", 0, losses, answers=True)
            areas = {a: {"nll": float(x.mean()), "exact_match": 0.25, "items": items} for a, x in losses.items()}
            (folder / "baseline.json").write_text(json.dumps({"areas": areas}))
        for trial in trials:
            for step, gain in trial.gains.items():
                scored = {a: x - gain + rng.normal(0, trial.noise, items) for a, x in losses.items()}
                write_items(folder, trial.trial_id, step, scored, answers=step == max(trial.gains))
            append(folder / "trials.jsonl", trial_line(trial))
        return folder

    return write


def trial_line(trial: FakeTrial) -> dict[str, Any]:
    place = f"trials/{trial.trial_id}/checkpoints/step-"
    return {
        "trial_id": trial.trial_id,
        "state": trial.state,
        "kind": "search",
        "replicate_of": None,
        "seed": 7,
        "params": trial.params,
        "steps": max(trial.gains, default=0),
        "steps_planned": max(trial.gains, default=0),
        "samples_seen": 400,
        "checkpoints": [{"step": step, "path": f"{place}{step}", "areas": {}} for step in trial.gains],
        "findings": [],
        "cost": {"device_seconds": 61.4, "wall_seconds": 63.0},
        "error": None,
        **trial.extra,
    }


def write_items(folder: Path, name: str, step: int, losses: dict[str, np.ndarray], answers: bool) -> None:
    path = folder / "trials" / name / "heldout.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    for area, values in losses.items():
        for index, nll in enumerate(values):
            append(
                path,
                {
                    "step": step,
                    "area": area,
                    "id": f"{area}-{index}",
                    "group": f"{area}-context-{index // 2}",
                    "nll": float(nll),
                    "tokens": 4,
                    "answer": "12" if answers else None,
                    "exact_match": float(index % 4 == 0) if answers else None,
                    "token_f1": 0.5 if answers else None,
                },
            )


def append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


@pytest.fixture
def fake_trial() -> type[FakeTrial]:
    return FakeTrial
