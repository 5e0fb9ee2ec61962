"""What a sweep will need, before anything is measured: arithmetic, memory, disk. PURE.

Counts floating-point operations by the usual rule (Kaplan et al. 2020, section 2.1): 2 for each weight and token in a
forward pass, twice that in a backward pass; without gradients of frozen weights the backward pass costs as much as the
forward. Attention's own products are left out: below some thousands of tokens they are a few per cent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.config.sections import TrainingConfig

FORWARD = 2
BACKWARD = {"full": 4, "lora": 2}
FP32_BYTES, BF16_BYTES = 4, 2

# FLOP/s in training: 35 % (ours, of the published 30 to 50 % for dense models) of the data sheets' dense bf16 peak.
DEVICES = {"one A100": 0.35 * 312e12, "one H100": 0.35 * 989e12}

# Bytes of activations that one token leaves in one layer, per unit of hidden size, with 16-bit activations and an
# attention that stores no score matrix: Korthikanti et al. 2022, "Reducing Activation Recomputation", 34 bytes in all.
ACTIVATION_BYTES = 34
# Logits of a label: in 16 bits, as float32, and the gradient of each.
LOGIT_BYTES = 2 * (BF16_BYTES + FP32_BYTES)
_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "vocabulary": ("vocab_size",),
}


@dataclass(frozen=True)
class ModelShape:
    """What a forecast needs of a model.

    Attributes:
        parameters: All weights.
        trained: Weights that a trial trains.
        hidden: Width of the residual stream; 0 where the model's config doesn't say it.
        layers: Number of layers; 0 likewise.
        vocabulary: Number of tokens; 0 likewise.
    """

    parameters: int
    trained: int
    hidden: int = 0
    layers: int = 0
    vocabulary: int = 0

    @classmethod
    def of(cls, parameters: int, trained: int, config: Mapping[str, Any]) -> ModelShape:
        """From a `config.json` of transformers, whose names differ between families."""
        text = config.get("text_config") or config
        found = {
            field: next((text[name] for name in names if isinstance(text.get(name), int)), 0)
            for field, names in _NAMES.items()
        }
        return cls(parameters, trained, **found)


@dataclass(frozen=True)
class Work:
    """What a sweep does.

    Attributes:
        train_tokens: Tokens of the training set.
        label_tokens: Those that are trained on.
        heldout_tokens: Tokens of all held-out areas.
        checkpoints: Checkpoints of a trial; each is scored on all areas.
        longest_tokens: The longest training sample.
        trials: Trials; those on parts of the training set count by their parts.
        kept: Settings of which a checkpoint is kept when their trials have ended; None for every checkpoint of all.
    """

    train_tokens: int
    label_tokens: int
    heldout_tokens: int
    checkpoints: int
    longest_tokens: int
    trials: float
    kept: int | None = None


@dataclass(frozen=True)
class Forecast:
    """What a sweep will need.

    Attributes:
        trial_flops: Floating-point operations of a trial, its held-out losses included, generated answers not.
        sweep_flops: Of all trials, and of the base model's scores.
        device_hours: Hours for the sweep on one device, by its name; measured ones take their place in the run.
        memory_bytes: Peak memory of a device, for the longest batch; None where the model's shape isn't known.
        disk_bytes: The checkpoints that are kept, and of one running trial its best, its last and the one that is being
            written, and what it could go on from, twice while that is replaced.
    """

    trial_flops: float
    sweep_flops: float
    device_hours: dict[str, float]
    memory_bytes: int | None
    disk_bytes: int


def forecast(
    shape: ModelShape, work: Work, training: TrainingConfig, method: str, speeds: Mapping[str, float]
) -> Forecast:
    """Forecasts a sweep; see `Forecast`.

    Args:
        shape: The model.
        work: The data and the trials.
        training: Batch size and precision.
        method: "full" or "lora".
        speeds: FLOP/s that devices sustain in training, by name.
    """
    train = (FORWARD + BACKWARD[method]) * shape.parameters * work.train_tokens
    score = FORWARD * shape.parameters * work.heldout_tokens
    trial = float(train + score * work.checkpoints)
    sweep = trial * work.trials + score
    hours = {name: sweep / speed / 3600 for name, speed in speeds.items()}
    return Forecast(trial, sweep, hours, _memory(shape, work, training, method), _disk(shape, work))


def _disk(shape: ModelShape, work: Work) -> int:
    trials = math.ceil(work.trials)
    checkpoints = work.checkpoints * trials
    if work.kept is not None:
        checkpoints = min(checkpoints, min(work.kept, trials) + min(3, work.checkpoints))
    states = min(2, work.checkpoints - 1)  # weights, AdamW's two running means; none after the last checkpoint
    return FP32_BYTES * shape.trained * (checkpoints + 3 * states)


def _memory(shape: ModelShape, work: Work, training: TrainingConfig, method: str) -> int | None:
    """Weights, gradients, AdamW's moments, the pristine base (full), activations and logits of the longest batch."""
    if not (shape.hidden and shape.layers and shape.vocabulary):
        return None
    frozen = shape.parameters if method == "lora" else 0
    weights = frozen * (FP32_BYTES if training.precision == "fp32" else BF16_BYTES)
    trained = shape.trained * 4 * FP32_BYTES + (shape.parameters * BF16_BYTES if method == "full" else 0)
    tokens = training.batch_size * work.longest_tokens
    kept_layers = 1 if training.gradient_checkpointing else shape.layers
    activations = tokens * shape.hidden * (ACTIVATION_BYTES * kept_layers + BF16_BYTES * shape.layers)
    labels = tokens * work.label_tokens // max(1, work.train_tokens)
    return weights + trained + activations + labels * shape.vocabulary * LOGIT_BYTES
