"""How the recommended peak LRs follow the adapter's alpha and the batch of a sweep's trials. Pure.

A factor tells by how much the best LR of a trial differs from that of the table in `sweeps.plan.lr_bounds`:

- alpha: `ALPHA / alpha`, whatever the rank: each of r components is scaled by alpha / r, and their sum by alpha.
  Schulman et al., "LoRA Without Regret" (2025): the best LR then does not depend on r (the measured surfaces say the
  same above rank 4), and alpha can be exchanged for the LR of B. For one LR of A and B, as here, that holds near the
  start of training, where B is 0.
- batch: sqrt(samples of a step / those of the config), the square-root rule for Adam (Malladi et al. 2022, "On the
  SDEs and Scaling Rules for Adaptive Gradient Algorithms"). Between trials only: the table's sources name several
  batches, so that its numbers count for the config's own.

The practice and those sources say nothing like it of the floor and the warm-up: their bounds stay.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

from sweeps.config.sweep_config import SweepConfig
from sweeps.plan.lr_bounds import Bounds, recommended
from trainables.config.hyperparameters import SCHEDULE_PARAMS, setting_of
from trainables.config.sections import Params

ALPHA = 32.0  # of the measured surfaces of LoRA
MOVING = ("lora_alpha", "batch_size", "gradient_accumulation")  # what the best LR follows


def centre(config: SweepConfig) -> Params:
    """The config's own values of the hyper-parameters in its space, the nearest one where the space leaves it out.

    The LR schedule's numbers are not among them.
    """
    own = setting_of(config.training, config.model.lora)
    numbers = {
        name: type(own[name])(min(max(own[name], low), high))
        for name, (low, high) in config.space.ends().items()
        if name not in SCHEDULE_PARAMS
    }
    choices = config.space.choices().items()
    return numbers | {name: own[name] if own[name] in values else values[0] for name, values in choices}


def factor(config: SweepConfig, params: Params) -> float:
    """The best LR of a trial with these params, over that of the table; values they lack are the config's own."""
    own = setting_of(config.training, config.model.lora)
    used = {**own, **params}
    samples = [values["batch_size"] * values["gradient_accumulation"] for values in (used, own)]
    by_alpha = ALPHA / used["lora_alpha"] if config.model.method == "lora" else 1.0
    return float(by_alpha * math.sqrt(samples[0] / samples[1]))


def followed_bounds(config: SweepConfig, parameters: int | None) -> Bounds:
    """Returns the recommended bounds that hold for every trial of the space.

    The peak LR's lower end is above its upper one where no peak LR does: alpha or batch range too far.
    """
    bounds, ends = recommended(config.model.method, parameters), config.space.ends()
    moving = {name: ends[name] for name in MOVING if name in ends}
    factors = [factor(config, dict(zip(moving, corner, strict=True))) for corner in product(*moving.values())]
    lowest, highest = min(factors), max(factors)
    if lowest == highest == 1.0:
        return bounds
    low, high = bounds.peak_lr
    span = f"{lowest:.3g}" if lowest == highest else f"{lowest:.3g} to {highest:.3g}, as alpha and batch are searched"
    words = f"peak times {span} (the best LR is inverse to alpha, and grows with the square root of the batch)"
    return replace(bounds, peak_lr=(low * highest, high * lowest), source=f"{bounds.source}; {words}")
