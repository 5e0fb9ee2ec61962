"""What is remembered of a loss curve: sums and short windows, whose size doesn't grow with the epoch.

Each sample's loss is read as its residual `loss - beta * (base - mean base)`. The base model's losses on the training
set are a control variate: a sample that is hard for the base model is hard for the trained one, by a part `beta` in 0
to 1 that falls as training goes on; it is fitted on the samples before, so that a residual does not depend on its own
fit. The base loss is centred on its mean over the whole set, so that a falling `beta` is no trend. With no base losses
the residual is the loss.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trainables.diagnostics.finding import Settings, json_number
from trainables.diagnostics.running_stats import Sums

WINDOW_STEPS = 8  # Steps that a level of the loss or of the gradient norm is taken from

BLOCKS = 16  # Equal parts of the epoch in which levels are kept

PEAK_PARTS = 20  # Equal parts of the phase at peak in which trends are kept

# Trailing samples that beta is fitted on; ours: at 8 a step 32 steps, in which beta hardly moves.
BETA_SAMPLES = 256

LEAST_BETA_SAMPLES = 16  # With fewer samples before it, beta is 1: at the start the model is the base model

SPIKE_STEPS = 4  # Steps that a spike is read from

# Bins of the histogram of gradient norms: a quantile is known to within 2^(1/4), 19 %.
NORM_BINS_PER_DOUBLING = 4


@dataclass
class Curve:
    """The curve so far, as much of it as the rules need.

    Attributes:
        step: The last step seen, 1-based; 0 before the first.
        loss: Its mean loss, nats a label token.
        grad_norm: Its gradient's total L2 norm before clipping.
        lr: Its LR.
        first_losses, last_losses: The first and the last finite losses, at most `WINDOW_STEPS`.
        blocks: Residuals against time (part of the epoch), in `BLOCKS` equal parts of the epoch.
        peak_parts: Likewise, in `PEAK_PARTS` equal parts of the steps at peak.
        recent: The last steps' residuals, a `Sums` a step, at most `SPIKE_STEPS`.
        before: All residuals before those, until a spike begins.
        spike: What `warmup_spike` has seen so far.
        pairs: The last samples' (loss, base loss), at most `BETA_SAMPLES`.
        beta: The last coefficient used; None without base losses.
        since_warmup: Residuals after warm-up; without base losses nothing is kept.
        steady_steps: Steps after warm-up with a finite gradient norm.
        clipped_steps: Those whose gradient was clipped.
        first_norms, last_norms: Logarithms of the first and last of their norms, at most `WINDOW_STEPS`.
        norm_bins: How many of them lie in which bin; see `add_norm`.
    """

    step: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    lr: float = 0.0
    first_losses: list[float] = field(default_factory=list)
    last_losses: list[float] = field(default_factory=list)
    blocks: list[Sums] = field(default_factory=lambda: [Sums() for _ in range(BLOCKS)])
    peak_parts: list[Sums] = field(default_factory=lambda: [Sums() for _ in range(PEAK_PARTS)])
    recent: list[Sums] = field(default_factory=list)
    before: Sums = field(default_factory=Sums)
    spike: dict[str, float] = field(default_factory=dict)
    pairs: list[list[float]] = field(default_factory=list)
    beta: float | None = None
    since_warmup: Sums = field(default_factory=Sums)
    steady_steps: int = 0
    clipped_steps: int = 0
    first_norms: list[float] = field(default_factory=list)
    last_norms: list[float] = field(default_factory=list)
    norm_bins: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        settings: Settings,
        step: int,
        loss: float,
        grad_norm: float,
        lr: float,
        item_nll: Sequence[float],
        item_base_nll: Sequence[float] | None,
    ) -> None:
        """Takes in the next step; what is not finite is seen but enters no window and no sum."""
        self.step, self.loss, self.grad_norm, self.lr = step, loss, grad_norm, lr
        if step > settings.schedule.warmup_steps and 0.0 < grad_norm < math.inf:
            self._add_norm(grad_norm, settings.max_grad_norm)
        if not math.isfinite(loss):
            return
        if len(self.first_losses) < WINDOW_STEPS:
            self.first_losses.append(loss)
        self.last_losses = [*self.last_losses, loss][-WINDOW_STEPS:]
        self._add_residuals(settings, self._residuals(settings, item_nll, item_base_nll))

    def norm_quantile(self, part: float) -> float:
        """A quantile of the gradient norms after warm-up, to within the width of a bin; there must be one norm."""
        left = part * self.steady_steps
        for place in sorted(map(int, self.norm_bins)):
            left -= self.norm_bins[str(place)]
            if left <= 0:
                break
        return float(2.0 ** ((place + 0.5) / NORM_BINS_PER_DOUBLING))

    def state_dict(self) -> dict[str, Any]:
        """All of it in plain JSON types."""
        return {**asdict(self), "loss": json_number(self.loss), "grad_norm": json_number(self.grad_norm)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Curve:
        """What `state_dict` was taken of.

        Raises:
            KeyError: A part is missing.
            TypeError: A part is unknown.
        """
        values = copy.deepcopy(state)
        for name in ("loss", "grad_norm"):
            values[name] = float(values[name])
        for name in ("blocks", "peak_parts", "recent"):
            values[name] = [Sums(**part) for part in values[name]]
        values["before"], values["since_warmup"] = Sums(**values["before"]), Sums(**values["since_warmup"])
        return cls(**values)

    def _residuals(self, settings: Settings, nll: Sequence[float], base: Sequence[float] | None) -> list[float]:
        if base is None or settings.base_level is None:
            return [value for value in nll if math.isfinite(value)]
        self.beta = beta = fit_beta(self.pairs)
        pairs = [[y, b] for y, b in zip(nll, base, strict=True) if math.isfinite(y) and math.isfinite(b)]
        self.pairs = [*self.pairs, *pairs][-BETA_SAMPLES:]
        residuals = [y - beta * (b - settings.base_level) for y, b in pairs]
        if self.step > settings.schedule.warmup_steps:
            for value in residuals:
                self.since_warmup.add(self.step / settings.schedule.steps, value)
        return residuals

    def _add_residuals(self, settings: Settings, residuals: list[float]) -> None:
        place, steps, peak = self.step - 1, settings.schedule.steps, settings.peak_steps
        homes = [self.blocks[min(place * BLOCKS // steps, BLOCKS - 1)]]
        if place in peak:
            homes.append(self.peak_parts[(place - peak.start) * PEAK_PARTS // len(peak)])
        latest = Sums()
        for value in residuals:
            for home in (*homes, latest):
                home.add(self.step / steps, value)
        self.recent.append(latest)
        if len(self.recent) > SPIKE_STEPS:
            oldest = self.recent.pop(0)
            if not self.spike:
                self.before = Sums.total([self.before, oldest])

    def _add_norm(self, norm: float, threshold: float) -> None:
        self.steady_steps += 1
        self.clipped_steps += 0.0 < threshold < norm
        if len(self.first_norms) < WINDOW_STEPS:
            self.first_norms.append(math.log(norm))
        self.last_norms = [*self.last_norms, math.log(norm)][-WINDOW_STEPS:]
        place = str(math.floor(math.log2(norm) * NORM_BINS_PER_DOUBLING))
        self.norm_bins[place] = self.norm_bins.get(place, 0) + 1


def fit_beta(pairs: Sequence[Sequence[float]]) -> float:
    """Slope of loss on base loss by least squares, held in 0 to 1; 1 for fewer than `LEAST_BETA_SAMPLES` pairs."""
    n = len(pairs)
    if n < LEAST_BETA_SAMPLES:
        return 1.0
    mean_y, mean_b = sum(y for y, _ in pairs) / n, sum(b for _, b in pairs) / n
    spread = sum((b - mean_b) ** 2 for _, b in pairs)
    if spread == 0.0:
        return 0.0
    return min(1.0, max(0.0, sum((y - mean_y) * (b - mean_b) for y, b in pairs) / spread))
