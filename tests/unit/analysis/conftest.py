"""Writes synthetic sweeps in the contract's form, with losses that are known in closed form."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from rich.console import Console

from analysis.output.end_screen import print_end
from analysis.output.leaderboard_table import print_board
from analysis.rank.score_matrix import ScoreMatrix
from analysis.stats.bootstrap import Bootstrap, Design, make_design
from benchmarks.confirm.posed_sweep import matrix_of_losses
from trainables.data.tokenization import SCHEMA


@dataclass
class FakeTrial:
    """A trial whose items' losses lie `gain` below the base model's, give or take `noise` (sd, item by item)."""

    trial_id: str
    gains: dict[int, float] = field(default_factory=dict)  # by step
    state: str = "complete"
    noise: float = 0.02
    params: dict[str, float] = field(default_factory=lambda: {"peak_lr": 3e-4, "warmup_fraction": 0.05})
    extra: dict[str, Any] = field(default_factory=dict)


META = json.dumps({"kind": "sum"})
WriteSweep = Callable[..., Path]


def write_sweep_in(
    place: Path,
    trials: list[FakeTrial],
    weights: Mapping[str, float] | None = None,
    items: int = 40,
    base: bool = True,
    name: str = "sweep",
    model: dict[str, Any] | None = None,
    areas: Mapping[str, dict[str, Any]] | None = None,
    confirm: dict[str, Any] | None = None,
) -> Path:
    """Writes a sweep in the contract's form and gives its folder."""
    weights = weights or {"invoices": 1.0, "tables": 1.0}
    folder = place / name
    config = {
        "name": name,
        "objective": "Answer questions on small tables.",
        "model": model or {"name": "random:tiny-llama", "method": "lora"},
        "heldout": {
            "areas": {
                area: {"path": f"{area}.jsonl", "weight": w, **(areas or {}).get(area, {})}
                for area, w in weights.items()
            }
        },
        **({"confirm": confirm} if confirm else {}),
    }
    (folder / "trials").mkdir(parents=True)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    rng = np.random.default_rng(0)
    losses = {area: rng.normal(2.0, 1.0, items) for area in weights}
    if base:
        write_items(folder, "baseline", 0, losses, answers=True)
        summaries = {a: {"nll": float(x.mean()), "exact_match": 0.25, "items": items} for a, x in losses.items()}
        (folder / "baseline.json").write_text(json.dumps({"areas": summaries}))
    for trial in trials:
        for step, gain in trial.gains.items():
            scored = {a: x - gain + rng.normal(0, trial.noise, items) for a, x in losses.items()}
            write_items(folder, trial.trial_id, step, scored, answers=step == max(trial.gains))
        append(folder / "trials.jsonl", trial_line(trial))
    return folder


def write_training_set(folder: Path, ids: list[str]) -> None:
    """Writes the tokenized training set's texts; the answer to sample `s17` is 17 million."""
    rows = [
        {"id": name, "prompt": f"{'x ' * 200}\n\nQuestion {name}?", "response": f"{name[1:]} million", "meta": META}
        for name in ids
    ]
    (folder / "cache").mkdir()
    table = pa.Table.from_pylist(rows, pa.schema([SCHEMA.field(name) for name in rows[0]]))
    with pa.OSFile(str(folder / "cache" / "train.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)


def write_training_curve(
    folder: Path,
    trial: str,
    ids: list[str],
    rng: np.random.Generator,
    wrong: str,
    excess: float = 3.0,
    base: float | None = None,
) -> None:
    """Writes a loss curve of ten steps over the samples in some order, on one of which the loss is in excess."""
    lines = []
    for step, part in enumerate(np.array_split(rng.permutation(ids), 10), start=1):
        nll = [float(rng.normal(1.0, 0.2)) + excess * (name == wrong) for name in part]
        line = {"step": step, "loss": 1.0, "lr": 1e-4, "ids": part.tolist(), "item_nll": nll}
        lines.append({**line, "item_tokens": [4] * len(nll), "item_base_nll": base and [base] * len(nll)})
    path = folder / "trials" / trial / "curve.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def write_sweep(tmp_path: Path) -> WriteSweep:
    """`write_sweep_in` the test's own folder."""
    return partial(write_sweep_in, tmp_path)


def replicate(of: str, seed: int, gains: dict[int, float], **more: Any) -> FakeTrial:
    """A replicate of a trial under another seed."""
    extra = {"kind": "replicate", "replicate_of": of, "seed": seed}
    return FakeTrial(f"{of}-s{seed}", gains, extra=extra, **more)


@pytest.fixture
def confirmed(write_sweep: WriteSweep) -> Path:
    """t1 led the search; over two fresh seeds t2 is better; t3 was never replicated."""
    return write_sweep(
        [
            *(FakeTrial("t1", {5: 0.3, 10: 0.60}), FakeTrial("t2", {10: 0.58}), FakeTrial("t3", {10: 0.2})),
            *(replicate("t1", 1, {10: 0.50}), replicate("t1", 2, {10: 0.52})),
            *(replicate("t2", 1, {10: 0.57}), replicate("t2", 2, {5: 0.2, 10: 0.61})),
        ],
        weights={"invoices": 1.0, "tables": 1.0, "contracts": 1.0},
    )


def printed(board: dict[str, Any], width: int = 120) -> str:
    """A board as the terminal shows it, with all its columns."""
    return shown_by(print_board, board, width)


def end_screen(board: dict[str, Any], width: int = 80, place: str | None = "outputs/sweep") -> str:
    """What a sweep ends with."""
    return shown_by(partial(print_end, place=place), board, width)


def shown_by(print_it: Callable[..., None], board: dict[str, Any], width: int) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    print_it(board, console=Console(file=stream, width=width, highlight=False, markup=False, emoji=False))
    stream.seek(0)
    return stream.read()


def matrix_of(losses: Mapping[str, np.ndarray], base: np.ndarray, draws: Bootstrap | None = None) -> ScoreMatrix:
    """A score matrix of losses (items, checkpoints) by trial, laid out as by `halves`."""
    if draws is None:
        draws = Bootstrap(halves(len(base)), 400)
    nll = np.hstack([losses[trial] for trial in sorted(losses)])
    steps = [(trial, step) for trial in sorted(losses) for step in range(losses[trial].shape[1])]
    return matrix_of_losses(steps, nll, base, draws)


def halves(items: int) -> Design:
    """Half of the items in area a, half in b, weights 1, two items a cluster."""
    return make_design(
        ["a"] * (items // 2) + ["b"] * (items // 2), [str(i // 2) for i in range(items)], {"a": 1, "b": 1}
    )


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


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Passes each record of a JSON Lines file through `change`; None leaves it out."""
    records = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records if record is not None))


def worse_in(folder: Path, trial: str, **areas: float) -> None:
    """Raises a trial's held-out losses by so much in each area."""
    path = folder / "trials" / trial / "heldout.jsonl"
    rewrite(path, lambda item: {**item, "nll": item["nll"] + areas.get(item["area"], 0.0)})


def append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
