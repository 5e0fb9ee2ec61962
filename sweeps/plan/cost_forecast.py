"""Forecast of a sweep's compute, memory and disk before anything is measured. PURE."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.config.sections import TrainingConfig

# FLOPs per weight and token (Kaplan et al. 2020, section 2.1). Without gradients of the frozen weights a backward pass
# costs as much as a forward pass. Attention's own products are left out: a few per cent below some thousands of tokens.
FORWARD = 2
BACKWARD = {"full": 4, "lora": 2}
FP32_BYTES, BF16_BYTES = 4, 2
# A weight in NF4, in blocks of 64, each with a scale in 8 bits, and of 256 of these a scale in float32.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)

# FLOP/s in training: 35 % (ours, of the published 30 to 50 % for dense models) of the data sheets' dense bf16 peak.
DEVICES = {"one A100": 0.35 * 312e12, "one H100": 0.35 * 989e12}

# Bytes of activations that one token leaves in one layer, per unit of hidden size, with 16-bit products and an
# attention that stores no score matrix. Ours, from runs without data of models with gated layers and RMSNorm, 1.7B to
# 32B; Korthikanti et al. 2022 count 34 for GPT's blocks. Trained weights leave the residual stream in float32.
ACTIVATION_BYTES = {"lora": 46, "full": 65}
# Logits of a label: in 16 bits, as float32, and the gradient of each.
LOGIT_BYTES = 2 * (BF16_BYTES + FP32_BYTES)
_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "vocabulary": ("vocab_size",),
}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model; 0 where its config doesn't say."""

    parameters: int
    trained: int  # parameters that a trial trains
    hidden: int = 0  # width of the residual stream
    layers: int = 0
    vocabulary: int = 0
    in_4_bits: int = 0  # parameters that are kept in NF4

    @classmethod
    def of(cls, parameters: int, trained: int, config: Mapping[str, Any], in_4_bits: int = 0) -> ModelShape:
        """Reads the sizes from a `config.json` of transformers."""
        text = config.get("text_config") or config
        found = {
            field: next((text[name] for name in names if isinstance(text.get(name), int)), 0)
            for field, names in _NAMES.items()
        }
        return cls(parameters, trained, **found, in_4_bits=in_4_bits)


@dataclass(frozen=True)
class Work:
    """Data and trials of a sweep."""

    train_tokens: int
    label_tokens: int  # training tokens with a loss
    heldout_tokens: int  # of all held-out areas
    checkpoints: int  # of a trial; each is scored on all areas
    longest_tokens: int  # of a training sample
    trials: float  # a trial on part of the training set counts as that part
    kept: int | None = None  # settings whose best checkpoint stays on the disk; None for every checkpoint of all
    paused: int = 0  # trials that pause, each after its first checkpoint
    stopped: int = 0  # those of them that do not go on
    pause_at: float = 0.0  # fraction of the epoch at which they pause
    slots: int = 1  # trials side by side on a device


@dataclass(frozen=True)
class Forecast:
    """Needs of a sweep."""

    trial_flops: float  # with held-out losses, without generated answers
    sweep_flops: float  # all trials and the base model's scores
    device_hours: dict[str, float]  # for the sweep on one device, by the device's name
    memory_bytes: int | None  # peak of a device, for the longest batch; None where the model's shape isn't known
    disk_bytes: int  # checkpoints that are kept, the files of paused trials and of one that runs
    paused_bytes: int = 0  # the paused trials' part of it


def forecast(
    shape: ModelShape, work: Work, training: TrainingConfig, method: str, speeds: Mapping[str, float]
) -> Forecast:
    """Forecasts a sweep.

    Args:
        shape: The model.
        work: The data and the trials.
        training: Batch size, precision and gradient checkpointing.
        method: "full" or "lora".
        speeds: FLOP/s that devices sustain in training, by name.
    """
    train = (FORWARD + BACKWARD[method]) * shape.parameters * work.train_tokens
    score = FORWARD * shape.parameters * work.heldout_tokens
    trial = float(train + score * work.checkpoints)
    saved = (1 - work.pause_at) * train + score * (work.checkpoints - 1)  # by each trial that does not go on
    sweep = trial * work.trials - saved * work.stopped + score
    hours = {name: sweep / speed / 3600 for name, speed in speeds.items()}
    # Each holds its checkpoint, and its state: weights and AdamW's two moments.
    paused = FP32_BYTES * shape.trained * 4 * work.paused
    disk = _disk(shape, work) + paused
    return Forecast(trial, sweep, hours, _memory(shape, work, training, method), disk, paused)


def _disk(shape: ModelShape, work: Work) -> int:
    trials = math.ceil(work.trials)
    checkpoints = work.checkpoints * trials
    if work.kept is not None:
        # Of the running trial: its best, its last and the one that is being written.
        checkpoints = min(checkpoints, min(work.kept, trials) + min(3, work.checkpoints))
    # Resume states hold weights and AdamW's two moments; two while one is replaced, none after the last checkpoint.
    states = min(2, work.checkpoints - 1)
    return FP32_BYTES * shape.trained * (checkpoints + 3 * states)


def _memory(shape: ModelShape, work: Work, training: TrainingConfig, method: str) -> int | None:
    if not (shape.hidden and shape.layers and shape.vocabulary):
        return None
    frozen = shape.parameters - shape.in_4_bits if method == "lora" else 0
    weights = frozen * (FP32_BYTES if training.precision == "fp32" else BF16_BYTES) + int(shape.in_4_bits * NF4_BYTES)
    # Weights, gradients and AdamW's two moments; a full fine-tune also keeps the untouched base for the next trial.
    trained = shape.trained * 4 * FP32_BYTES + (shape.parameters * BF16_BYTES if method == "full" else 0)
    tokens = work.slots * training.batch_size * work.longest_tokens
    kept_layers = 1 if training.gradient_checkpointing else shape.layers
    activations = tokens * shape.hidden * (ACTIVATION_BYTES[method] * kept_layers + BF16_BYTES * shape.layers)
    labels = tokens * work.label_tokens // max(1, work.train_tokens)
    return weights + trained + activations + labels * shape.vocabulary * LOGIT_BYTES
