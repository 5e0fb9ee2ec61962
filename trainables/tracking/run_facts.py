"""PURE. What a tracked run is called, what its config holds, and the rows that are logged of steps and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from trainables.config.hyperparameters import lr_text, with_params
from trainables.config.sections import ModelConfig, Params, TrainingConfig
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation.objective import Measure

if TYPE_CHECKING:
    from trainables.training.curve_recorder import StepRecord

Scores = Mapping[str, Mapping[str, float | None]]
"""Held-out scores by area and name; None where no answer was generated."""

OBJECTIVE, LOSS = "objective", "heldout/loss"  # metrics' names


def run_name(sweep: str, spec: TrialSpec) -> str:
    """A trial's run by what it tried: `demo · 7.6e-4 · t0003`; a trial with another seed or purpose names that too."""
    peak = spec.params.get("peak_lr")
    parts = [sweep, *([] if peak is None else [lr_text(float(peak))]), spec.trial_id]
    if spec.kind != "search":
        parts.append(f"{spec.kind} of {spec.replicate_of}, seed {spec.seed}")
    return " · ".join(parts)


def resolved_config(
    model: ModelConfig, training: TrainingConfig, params: Params, data_sha256: Mapping[str, str]
) -> dict[str, Any]:
    """The config that a trial was trained with: model, adapter, batch and schedule with its own values, data hashes.

    It has no path and no address of the user's but `model.name`.

    Args:
        model: The sweep's model section.
        training: Its training section.
        params: The trial's hyper-parameters.
        data_sha256: Hashes of the training set and the areas by name; empty where not known.
    """
    used, lora = with_params(training, model.lora, params)
    adapter = {"lora": lora.model_dump()} if model.method == "lora" else {}
    return {
        "model": model.name,
        **model.model_dump(exclude={"name", "lora"}),
        **adapter,
        "training": used.model_dump(),
        "data_sha256": dict(data_sha256),
    }


def step_row(record: StepRecord) -> dict[str, float]:
    """A step's loss, LR, gradient norm and clipping (0 or 1) as `train/NAME`, with its number as `step`.

    `train/loss_minus_base` is the loss less the base model's on the same tokens, where that is known.
    """
    row = {
        "step": record.step,
        "train/loss": record.loss,
        "train/lr": record.lr,
        "train/grad_norm": record.grad_norm,
        "train/clipped": int(record.clipped),
    }
    return row if record.base_loss is None else {**row, "train/loss_minus_base": record.loss - record.base_loss}


def speed_row(line: Mapping[str, Any]) -> dict[str, float]:
    """A line of `speed.jsonl` as `train/tokens_per_second`, with its `step`."""
    return {"step": line["step"], "train/tokens_per_second": line["tokens"] / line["seconds"]}


def area_row(step: int, summaries: Scores, baseline: Scores | None) -> dict[str, float]:
    """A checkpoint's held-out scores as `heldout/AREA/NAME`, with its step as `step`; `items` is left out.

    Where the base model's scores are given, `heldout/AREA/gain` is its `nll` minus the checkpoint's: nats a token,
    above 0 is better than the base model.
    """
    row: dict[str, float] = {"step": step}
    for area, scores in summaries.items():
        given = {name: float(score) for name, score in scores.items() if score is not None and name != "items"}
        row |= {f"heldout/{area}/{name}": score for name, score in given.items()}
        base = (baseline or {}).get(area, {}).get("nll")
        if base is not None and "nll" in given:
            row[f"heldout/{area}/gain"] = base - given["nll"]
    return row


def mean_row(
    areas: Mapping[str, Mapping[str, Any]], weights: Mapping[str, float], measure: Measure
) -> dict[str, float]:
    """`heldout/loss`, the mean NLL by weight in nats a token, and `objective`, the deciding metric's mean as it is.

    What an area lacks is left out: answers are not generated at every checkpoint.
    """
    row = {LOSS: Measure().objective(areas, weights), OBJECTIVE: measure.turned(measure.objective(areas, weights))}
    return {name: value for name, value in row.items() if math.isfinite(value)}


def best_objective(rows: Iterable[Mapping[str, float]], measure: Measure) -> float | None:
    """The best `objective` of a trial's `mean_row`s; None where none has one."""
    found = [row[OBJECTIVE] for row in rows if OBJECTIVE in row]
    return (max if measure.higher_is_better else min)(found, default=None)
