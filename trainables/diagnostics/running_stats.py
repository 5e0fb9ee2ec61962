"""Running sums for means and straight lines, without keeping the values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.special import stdtr, stdtrit


class Line(NamedTuple):
    """A least-squares line."""

    slope: float  # per unit of time
    t: float  # the slope over its standard error
    rise_p: float  # one-sided p-value of "it does not rise" (Student's t, n - 2 degrees of freedom)


@dataclass
class Sums:
    """Sums over values y at times t."""

    # Times should be of the order of 1: variances are differences of sums of squares and lose digits otherwise.
    n: int = 0
    t: float = 0.0
    y: float = 0.0
    tt: float = 0.0
    ty: float = 0.0
    yy: float = 0.0

    def add(self, t: float, y: float) -> None:
        self.n += 1
        self.t += t
        self.y += y
        self.tt += t * t
        self.ty += t * y
        self.yy += y * y

    @classmethod
    def total(cls, parts: Iterable[Sums]) -> Sums:
        whole = cls()
        for part in parts:
            whole.n += part.n
            whole.t += part.t
            whole.y += part.y
            whole.tt += part.tt
            whole.ty += part.ty
            whole.yy += part.yy
        return whole

    @property
    def mean(self) -> float:
        """Mean of the values; needs one."""
        return self.y / self.n

    @property
    def variance(self) -> float:
        """Sample variance of the values; needs two."""
        return max(0.0, self.yy - self.y * self.y / self.n) / (self.n - 1)

    @property
    def mean_variance(self) -> float:
        """Variance of the mean; needs two values."""
        return self.variance / self.n


def fit_line(parts: Sequence[Sums]) -> Line:
    """Least squares of y on t over the values of all parts, with a heteroscedasticity-robust standard error.

    The error is "HC3" (MacKinnon and White 1985; Long and Ervin 2000): squared residuals over (1 - leverage) squared,
    here averaged within each part, whose times are close together. Needs three values, not all at one time.
    """
    # Samples count one by one, and their unequal difficulty widens the error. Their spread changes along a curve
    # (a model leaves its base, or settles), which is why a common variance would be wrong.
    whole = Sums.total(parts)
    middle = whole.t / whole.n
    around = whole.tt - whole.t * middle
    slope = (whole.ty - middle * whole.y) / around
    origin = whole.mean - slope * middle
    variance = 0.0
    for part in parts:
        if part.n == 0:
            continue
        spread = part.tt - 2.0 * middle * part.t + part.n * middle * middle  # of the times around their mean
        left = part.yy - 2.0 * origin * part.y - 2.0 * slope * part.ty
        left += part.n * origin**2 + 2.0 * origin * slope * part.t + slope**2 * part.tt
        leverage = 1.0 / whole.n + spread / part.n / around
        variance += spread * max(0.0, left) / part.n / max(1e-9, 1.0 - leverage) ** 2
    error = math.sqrt(variance) / around
    t = slope / error if error > 0.0 else math.copysign(math.inf, slope) if slope else 0.0
    return Line(slope, t, float(stdtr(whole.n - 2, -t)))


class Difference(NamedTuple):
    """Difference of two means with its standard error and degrees of freedom."""

    value: float
    error: float
    df: float

    def bound(self, level: float) -> float:
        """Half-width of the one-sided confidence bound at a level, such as 0.995."""
        return float(stdtrit(self.df, level)) * self.error

    @property
    def above_zero_p(self) -> float:
        """One-sided p-value of "it is not above 0"."""
        if self.error == 0.0:
            return 0.0 if self.value > 0.0 else 1.0
        return float(stdtr(self.df, -self.value / self.error))


def difference(first: Sums, second: Sums) -> Difference:
    """Mean of the first minus mean of the second, by Welch's formula; each needs two values."""
    a, b = first.mean_variance, second.mean_variance
    both = a + b
    df = both * both / (a * a / (first.n - 1) + b * b / (second.n - 1)) if both > 0.0 else first.n + second.n - 2.0
    return Difference(first.mean - second.mean, math.sqrt(both), df)


def difference_to(level: float, values: Sums) -> Difference:
    """A known level minus the mean of values, at least two."""
    return Difference(level - values.mean, math.sqrt(values.mean_variance), values.n - 1.0)


def difference_from(level: float, values: Sums) -> Difference:
    """Mean of values, at least two, minus a known level."""
    return difference_to(level, values)._replace(value=values.mean - level)
