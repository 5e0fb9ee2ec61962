"""Recommended search bounds of the LR schedule, by fine-tuning method and model size, each with its source.

Units: peak and floor are AdamW learning rates (absolute, no ratio); warm-up is a fraction of the epoch's optimizer
steps; sizes are numbers of parameters of the base model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainables.config.sections import Params

Method = Literal["lora", "full"]
Range = tuple[float, float]

BILLION = 1_000_000_000

# This practice writes some learning rates as "0.5 X 10e-5". Literally that is 5e-5, but its own upper end (1.5e-5 to
# 2.0e-5) shows that 0.5e-5 is meant. All numbers here follow the second reading.
PRACTICE = "the project's fine-tuning practice for GPT-style decoders"
SURFACES = "288 measured LoRA fine-tunes of 18 models (the sweep results that tinker-cookbook publishes)"


@dataclass(frozen=True)
class Bounds:
    """Lowest and highest value of each hyper-parameter, and the source of the numbers in words."""

    peak_lr: Range
    decay_floor: Range  # the LR at the end of the epoch
    warmup_fraction: Range
    source: str


@dataclass(frozen=True)
class _Row:
    """A method's row of the table."""

    peak_lr: Range
    decay_floor: Range
    small_below: int  # models with fewer parameters may go up to
    small_high: float  # this peak LR
    best_peak_lr: float
    source: str
    small_source: str


# 3 to 10 % of the steps, often a few hundred of them. Source: PRACTICE, for both methods.
WARMUP_FRACTION: Range = (0.03, 0.10)
# Inside that range, nearer the lower end on a log scale. Ours.
RECOMMENDED_WARMUP_FRACTION = 0.05

_TABLE: dict[Method, _Row] = {
    "full": _Row(
        # "Around 1.0e-5, seldom above 1.5-2.0e-5, seldom below 0.5e-5." Source: PRACTICE.
        peak_lr=(0.5e-5, 2.0e-5),
        # "A floor of 0.4-0.5e-5, seldom lower." Source: PRACTICE.
        decay_floor=(0.4e-5, 0.5e-5),
        # Small models bear more: a 135M model trained on 400 samples still gained from 0.5e-5 to 2e-5. Ours.
        small_below=BILLION,
        small_high=5e-5,
        # "Around 1.0e-5." Source: PRACTICE.
        best_peak_lr=1.0e-5,
        source=f"peak, floor and warm-up: {PRACTICE}",
        small_source="highest peak for models below 1B parameters: ours, from trials on a 135M model",
    ),
    "lora": _Row(
        # The best LR was 1e-4 to 1e-3 for 64 of the 65 pairs of model and rank. Source: SURFACES. The lower end is ten
        # times that of full fine-tuning, the ratio that "LoRA Without Regret" (Schulman et al., Thinking Machines Lab,
        # 2025) reports.
        peak_lr=(5e-5, 1e-3),
        # Ten times the floor of full fine-tuning, by analogy. Ours.
        decay_floor=(4e-5, 5e-5),
        # The 1B and the 3B model were best at 1e-3, the highest LR listed for them. The size 4B and the LR 2e-3: ours.
        small_below=4 * BILLION,
        small_high=2e-3,
        # Best for 39 of the 65 pairs, at nearly every rank above 4. Source: SURFACES.
        best_peak_lr=3e-4,
        source=f"peak: {SURFACES}; floor: ours, ten times that of full fine-tuning; warm-up: {PRACTICE}",
        small_source="highest peak for models below 4B parameters: ours, from the 1B and 3B models among those",
    ),
}


def recommended(method: Method, parameters: int | None) -> Bounds:
    """Returns the recommended bounds; those of large models, which are narrower, where `parameters` is None (unknown).

    Raises:
        ValueError: `parameters` is below 1.
    """
    if parameters is not None and parameters < 1:
        raise ValueError(f"parameters must be at least 1, got {parameters}")
    row = _TABLE[method]
    (low, high), source = row.peak_lr, row.source
    if parameters is None:
        source = f"{source}; model size not known: the bounds of large models"
    elif parameters < row.small_below:
        high, source = row.small_high, f"{source}; {row.small_source}"
    return Bounds((low, high), row.decay_floor, WARMUP_FRACTION, source)


def recommended_point(bounds: Bounds, method: Method, factor: float = 1.0) -> Params:
    """Returns the setting to try first: `peak_lr`, `warmup_fraction` and `decay_floor`, each inside `bounds`.

    `factor` multiplies the method's best peak LR (`sweeps.plan.lr_scale`). Peak LR and warm-up are the known good
    values of the method where `bounds` holds them. Otherwise, and for the floor, it is the middle of the range:
    geometric, or arithmetic where the range starts at 0.
    """
    # Narrow bounds of the user's own may give a floor near the peak: `cap_floor` applies, as to any trial.
    return {
        "peak_lr": _inside(bounds.peak_lr, factor * _TABLE[method].best_peak_lr),
        "warmup_fraction": _inside(bounds.warmup_fraction, RECOMMENDED_WARMUP_FRACTION),
        "decay_floor": _middle(bounds.decay_floor),
    }


def _inside(bounds: Range, preferred: float) -> float:
    return preferred if bounds[0] <= preferred <= bounds[1] else _middle(bounds)


def _middle(bounds: Range) -> float:
    low, high = bounds
    middle = math.sqrt(low * high) if low > 0.0 else 0.5 * (low + high)
    # A fixed number is a range of no width, and the square root may miss it by a last bit.
    return min(max(middle, low), high)
