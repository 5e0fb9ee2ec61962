"""Loss curves with a known truth, sample by sample, read by a `CurveMonitor`."""

from collections.abc import Callable

import numpy as np

from trainables.diagnostics import CurveMonitor, Finding
from trainables.optim.lr_schedule import LRSchedule

BASE_MEAN, BASE_SHAPE = 2.8, 4.0
"""Base losses are drawn from a gamma distribution, which is skewed as losses are."""


def schedule(steps: int = 100, shape: str = "linear", warmup: int = 5, floor: float = 1e-5) -> LRSchedule:
    return LRSchedule(peak_lr=1e-4, floor_lr=floor, steps=steps, warmup_steps=warmup, shape=shape)


def draw(
    level: Callable[[float], float],
    lr: LRSchedule,
    *,
    seed: int = 0,
    batch: int = 8,
    sd: float = 0.5,
    with_base: bool = True,
    beta: float = 0.4,
    norm: Callable[[float], float] = lambda _: 0.5,
    max_grad_norm: float = 1.0,
    watched: CurveMonitor | None = None,
    steps: range | None = None,
) -> list[Finding]:
    """Findings of a curve.

    Args:
        level: Mean loss by part of the epoch, 0 to 1.
        lr: The LR schedule.
        seed: Of the samples' difficulties and noise.
        batch: Samples a step.
        sd: Noise of a sample's loss beside its difficulty.
        with_base: Whether base losses are given.
        beta: Part of a sample's base loss, less its mean, that is in its loss.
        norm: Gradient norm by part of the epoch.
        max_grad_norm: Clipping threshold.
        watched: Reads on where it stopped.
        steps: Steps to read, counted from 0; all by default.
    """
    rng = np.random.default_rng(seed)
    base = rng.gamma(BASE_SHAPE, BASE_MEAN / BASE_SHAPE, (lr.steps, batch))
    noise = rng.normal(0.0, sd, (lr.steps, batch))
    watched = watched or CurveMonitor(lr, max_grad_norm, float(base.mean()) if with_base else None)
    found = []
    for step in steps or range(lr.steps):
        part = step / lr.steps
        nll = level(part) + beta * (base[step] - base.mean()) + noise[step]
        items = base[step].tolist() if with_base else None
        found += watched.update(step + 1, float(nll.mean()), norm(part), lr(step), nll.tolist(), items)
    return found


def rules(findings: list[Finding]) -> set[str]:
    return {finding["rule"] for finding in findings}


def named(findings: list[Finding], rule: str) -> list[Finding]:
    return [found for found in findings if found["rule"] == rule]


def only(findings: list[Finding], rule: str) -> Finding:
    (finding,) = named(findings, rule)
    return finding
