"""Loss curves with a known truth, for precision and recall of the rules in `benchmarks.diagnostics`.

A curve is a level along the epoch, samples of unequal difficulty (a gamma distribution, as skewed as losses are; a part
of it is the base model's), and noise. Each class says which rules must speak and which others may.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.diagnostics.rule_counts import RuleCounts
from trainables.diagnostics import RULES, CurveMonitor
from trainables.optim.lr_schedule import LRSchedule

# A short epoch of 1,280 samples, for evidence is scarcest there.
STEPS, BATCH = 160, 8

PEAK_LR = 2e-4
# Mean loss of the 135M model on its demo data, and the skew of a gamma distribution that looks like its losses.
BASE_MEAN, BASE_SHAPE = 2.7, 4.0

# Sd of a sample's loss less the part that its base loss explains, as on the 135M model (0.56 with beta).
NOISE_SD = 0.5

Shape = Callable[[float, np.random.Generator], float]


@dataclass(frozen=True)
class Class:
    """A kind of curve."""

    # mean loss by part of the epoch; its parameters are drawn for each curve
    level: Callable[[np.random.Generator], Callable[[float], float]]
    must: tuple[str, ...] = ()  # rules that must speak
    may: tuple[str, ...] = ()  # rules that may speak too, because the curve shows what they look for
    beta: float = 0.4  # part of a sample's base loss that is in its loss, at the end of the epoch; 1 at its start
    noise: float = NOISE_SD  # sd of the noise
    norm: Callable[[float], float] = field(default=lambda _: 0.5)  # gradient norm by part of the epoch
    floor: float = 0.2  # floor of the LR as a part of the peak
    warmup: int = 8  # warm-up steps


def settling(draw: np.random.Generator) -> Callable[[float], float]:
    """A healthy curve: from the base's level to its end, most of it early."""
    end, rate = draw.uniform(0.9, 1.6), draw.uniform(6.0, 20.0)
    return lambda part: end + (BASE_MEAN - end) * math.exp(-rate * part)


def flat(draw: np.random.Generator) -> Callable[[float], float]:
    """Falls at once and then stays: the hardest healthy curve for a trend test."""
    level = draw.uniform(1.2, 2.2)
    return lambda part: level if part > 0.03 else BASE_MEAN


def rising(draw: np.random.Generator) -> Callable[[float], float]:
    """Falls in the warm-up, rises by 0.5 to 1.5 nats while the LR is at peak, and falls with the LR."""
    low, rise, start = draw.uniform(1.4, 2.0), draw.uniform(0.5, 1.5), draw.uniform(0.05, 0.1)
    top = 0.28

    def level(part: float) -> float:
        if part < start:
            return BASE_MEAN + (low - BASE_MEAN) * part / start
        if part < top:
            return low + rise * (part - start) / (top - start)
        return low + rise * math.exp(-4.0 * (part - top))

    return level


def above_base(draw: np.random.Generator) -> Callable[[float], float]:
    """Worse than the base model from the warm-up on, without a further rise."""
    over = draw.uniform(0.5, 1.5)
    return lambda part: BASE_MEAN + over * min(1.0, part / 0.05)


def diverging(draw: np.random.Generator) -> Callable[[float], float]:
    """Blows up for good at some point of the epoch."""
    at, high, healthy = draw.uniform(0.1, 0.7), draw.uniform(7.0, 11.0), settling(draw)
    return lambda part: healthy(part) if part < at else high


def not_a_number(draw: np.random.Generator) -> Callable[[float], float]:
    """NaN from some step on."""
    at, healthy = draw.uniform(0.05, 0.9), settling(draw)
    return lambda part: healthy(part) if part < at else math.nan


def spiking(draw: np.random.Generator) -> Callable[[float], float]:
    """A spike of 1 to 2.5 nats at the end of the warm-up that is gone soon after."""
    at, height, healthy = draw.uniform(0.04, 0.06), draw.uniform(1.0, 2.5), settling(draw)
    return lambda part: healthy(part) + (height if at <= part < at + 0.03 else 0.0)


def crawling(draw: np.random.Generator) -> Callable[[float], float]:
    """Hardly leaves the base model."""
    fall = draw.uniform(0.0, 0.06)
    return lambda part: BASE_MEAN - fall * part


def falling(draw: np.random.Generator) -> Callable[[float], float]:
    """As steep at the end as at the start."""
    fall = draw.uniform(1.0, 1.8)
    return lambda part: BASE_MEAN - fall * part


def settled_early(draw: np.random.Generator) -> Callable[[float], float]:
    """Gains everything in the first third, before the LR falls."""
    end, rate = draw.uniform(0.9, 1.4), draw.uniform(15.0, 25.0)
    return lambda part: end + (BASE_MEAN - end) * math.exp(-rate * part)


CLASSES = {
    "healthy": Class(settling, may=("nothing_gained_below",)),
    "flat": Class(flat, may=("nothing_gained_below",)),
    "rising at peak": Class(rising, must=("steady_rise",), may=("worse_than_base",)),
    "above the base": Class(above_base, must=("worse_than_base",), may=("steady_rise",)),
    "diverging": Class(diverging, must=("divergence",), may=("steady_rise", "worse_than_base")),
    "not a number": Class(not_a_number, must=("non_finite",)),
    "spike in warm-up": Class(spiking, must=("warmup_spike",), may=("nothing_gained_below",)),
    "LR too low": Class(crawling, must=("barely_moving",), beta=0.95, noise=0.15, may=("still_falling",)),
    "falling to the end": Class(falling, must=("still_falling",), floor=0.8),
    "settled early": Class(settled_early, must=("nothing_gained_below",), floor=0.02, noise=0.3),
    "growing gradients": Class(
        settling,
        must=("grad_norm_growing",),
        may=("nothing_gained_below", "mostly_clipped"),
        norm=lambda p: 0.3 * math.exp(9 * p),
    ),
    "clipped": Class(settling, must=("mostly_clipped",), may=("nothing_gained_below",), norm=lambda _: 2.0),
}


def findings(kind: Class, seed: int, with_base: bool) -> set[str]:
    """Rules that speak on one curve of a class."""
    draw = np.random.default_rng([29, seed])
    schedule = LRSchedule(PEAK_LR, kind.floor * PEAK_LR, STEPS, kind.warmup)
    level = kind.level(draw)
    base = draw.gamma(BASE_SHAPE, BASE_MEAN / BASE_SHAPE, (STEPS, BATCH))
    monitor = CurveMonitor(schedule, 1.0, float(base.mean()) if with_base else None)
    seen = set()
    for step in range(STEPS):
        part = step / STEPS
        beta = 1.0 + (kind.beta - 1.0) * min(1.0, 4.0 * part)
        spread = kind.noise * min(1.0, 0.2 + 4.0 * part)  # at its start a model is its base: beta 1 and little noise
        nll = level(part) + beta * (base[step] - base.mean()) + draw.normal(0.0, spread, BATCH)
        norm = kind.norm(part) * float(draw.lognormal(0.0, 0.25))
        base_nll = base[step].tolist() if with_base else None
        found = monitor.update(step + 1, float(nll.mean()), norm, schedule.lr(step), nll.tolist(), base_nll)
        seen |= {finding["rule"] for finding in found}
        if any(finding["severity"] == "error" for finding in found):
            break
    return seen


def precision_and_recall(curves: int, with_base: bool) -> dict[str, RuleCounts]:
    """Counts by rule over `curves` of each class; a rule that may speak counts neither way where it does."""
    counts = {rule: RuleCounts() for rule in RULES}
    for kind in CLASSES.values():
        for seed in range(curves):
            spoken = findings(kind, seed, with_base)
            for rule, count in counts.items():
                count.add(rule in spoken and rule not in kind.may, rule in kind.must)
    return counts
