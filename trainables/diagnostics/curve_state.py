"""The state of a loss curve: sums and short windows, whose size doesn't grow with the epoch.

Each sample's loss is read as its residual `loss - beta * (base - mean base)`, with the base model's losses on the
training set as a control variate. A sample that is hard for the base model is hard for the trained one too, by a share
`beta` in 0 to 1 that falls with training. Without base losses the residual is the loss.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from trainables.diagnostics.finding import Settings
from trainables.diagnostics.running_stats import Sums

WINDOW_STEPS = 8  # steps in a level of the loss or of the gradient norm
BLOCKS = 16  # equal parts of the epoch, for levels
PEAK_PARTS = 20  # equal parts of the phase at peak, for trends
BETA_SAMPLES = 256  # trailing samples of beta's fit: 32 steps of 8, in which beta hardly moves; our choice
LEAST_BETA_SAMPLES = 16  # with fewer samples beta is 1: at the start the model is the base model
SPIKE_STEPS = 4  # steps in the level of a spike
NORM_BINS_PER_DOUBLING = 4  # of the gradient norms' histogram: quantiles are exact to 2^(1/4), 19 %


@dataclass
class Curve:
    """The curve so far, as much of it as the rules need."""

    step: int = 0  # the last step, 1-based; 0 before the first
    loss: float = 0.0  # its mean loss, nats a label token
    grad_norm: float = 0.0  # its gradient's total L2 norm before clipping
    lr: float = 0.0
    # The first and the last finite losses, at most `WINDOW_STEPS`.
    first_losses: list[float] = field(default_factory=list)
    last_losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_STEPS))
    # Residuals against time (fraction of the epoch), in `BLOCKS` equal parts of the epoch.
    blocks: list[Sums] = field(default_factory=lambda: [Sums() for _ in range(BLOCKS)])
    # The same in `PEAK_PARTS` equal parts of the steps at peak.
    peak_parts: list[Sums] = field(default_factory=lambda: [Sums() for _ in range(PEAK_PARTS)])
    recent: list[Sums] = field(default_factory=list)  # the last steps' residuals, at most `SPIKE_STEPS`
    before: Sums = field(default_factory=Sums)  # all residuals before those, until a spike begins
    spike: dict[str, float] = field(default_factory=dict)  # state of `warmup_spike`
    # The last samples' (loss, base loss), at most `BETA_SAMPLES`.
    pairs: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=BETA_SAMPLES))
    beta: float | None = None  # the last coefficient used; None without base losses
    since_warmup: Sums = field(default_factory=Sums)  # residuals after warm-up; empty without base losses
    steady_steps: int = 0  # steps after warm-up with a finite gradient norm
    clipped_steps: int = 0  # those whose gradient was clipped
    # Logarithms of the first and last of their norms, at most `WINDOW_STEPS`.
    first_norms: list[float] = field(default_factory=list)
    last_norms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_STEPS))
    norm_bins: Counter[int] = field(default_factory=Counter)  # number of these norms by bin of their logarithm

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
        """Add the next step."""
        self.step, self.loss, self.grad_norm, self.lr = step, loss, grad_norm, lr
        if step > settings.schedule.warmup_steps and 0.0 < grad_norm < math.inf:
            self._add_norm(grad_norm, settings.max_grad_norm)
        # Numbers that are not finite would spoil every later sum; `non_finite` reads them from the step itself.
        if not math.isfinite(loss):
            return
        if len(self.first_losses) < WINDOW_STEPS:
            self.first_losses.append(loss)
        self.last_losses.append(loss)
        self._add_residuals(settings, self._residuals(settings, item_nll, item_base_nll))

    def norm_quantile(self, part: float) -> float:
        """A quantile of the gradient norms after warm-up, to within a bin; needs at least one norm."""
        left = part * self.steady_steps
        for position in sorted(self.norm_bins):
            left -= self.norm_bins[position]
            if left <= 0:
                break
        return float(2.0 ** ((position + 0.5) / NORM_BINS_PER_DOUBLING))

    def _residuals(self, settings: Settings, nll: Sequence[float], base: Sequence[float] | None) -> list[float]:
        if base is None or settings.base_level is None:
            return [value for value in nll if math.isfinite(value)]
        # Fitted on earlier samples only: a residual must not depend on its own fit.
        self.beta = beta = fit_beta(self.pairs)
        pairs = [(y, b) for y, b in zip(nll, base, strict=True) if math.isfinite(y) and math.isfinite(b)]
        self.pairs.extend(pairs)
        # Base losses centered on their mean over the whole set: a falling beta then makes no trend.
        residuals = [y - beta * (b - settings.base_level) for y, b in pairs]
        if self.step > settings.schedule.warmup_steps:
            for value in residuals:
                self.since_warmup.add(self.step / settings.schedule.steps, value)
        return residuals

    def _add_residuals(self, settings: Settings, residuals: list[float]) -> None:
        index, steps, peak = self.step - 1, settings.schedule.steps, settings.peak_steps
        latest = Sums()
        targets = [latest, self.blocks[min(index * BLOCKS // steps, BLOCKS - 1)]]
        if index in peak:
            targets.append(self.peak_parts[(index - peak.start) * PEAK_PARTS // len(peak)])
        for value in residuals:
            for target in targets:
                target.add(self.step / steps, value)
        self.recent.append(latest)
        if len(self.recent) > SPIKE_STEPS:
            oldest = self.recent.pop(0)
            # Frozen during a spike, so that the spike doesn't raise the level it is compared with.
            if not self.spike:
                self.before = Sums.total([self.before, oldest])

    def _add_norm(self, norm: float, threshold: float) -> None:
        self.steady_steps += 1
        self.clipped_steps += 0.0 < threshold < norm
        if len(self.first_norms) < WINDOW_STEPS:
            self.first_norms.append(math.log(norm))
        self.last_norms.append(math.log(norm))
        self.norm_bins[math.floor(math.log2(norm) * NORM_BINS_PER_DOUBLING)] += 1


def fit_beta(pairs: Collection[Sequence[float]]) -> float:
    """Least-squares slope of loss on base loss, clamped to 0 to 1; 1 below `LEAST_BETA_SAMPLES` pairs."""
    n = len(pairs)
    if n < LEAST_BETA_SAMPLES:
        return 1.0
    mean_y, mean_b = sum(y for y, _ in pairs) / n, sum(b for _, b in pairs) / n
    spread = sum((b - mean_b) ** 2 for _, b in pairs)
    if spread == 0.0:
        return 0.0
    return min(1.0, max(0.0, sum((y - mean_y) * (b - mean_b) for y, b in pairs) / spread))
