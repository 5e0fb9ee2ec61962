"""Figures as text, the same in the table and in the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.output.leaderboard import Interval, SeparationMethod
from trainables.evaluation.objective import NLL, Measure

UNKNOWN = "-"


def nats(value: float | None) -> str:
    """A loss or gain to a thousandth of a nat."""
    return UNKNOWN if value is None else f"{value:.3f}"


def measure_of(board: Mapping[str, Any]) -> Measure:
    """The metric that decided; boards of earlier versions knew the loss alone."""
    return Measure((board.get("measure") or {}).get("metric", NLL))


def scored(board: Mapping[str, Any], objective: float | None) -> str:
    """An objective of the board as people read it, in the metric that decides."""
    return nats(None if objective is None else measure_of(board).turned(objective))


def with_interval(value: float | None, interval: Interval | None) -> str:
    """A value and its interval: `0.500 [0.400, 0.600]`."""
    if value is None:
        return UNKNOWN
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else f"{value:.3f} [unknown]"


def negated(interval: Interval | None) -> Interval | None:
    """The interval of a gain, given that of a loss."""
    return [-interval[1], -interval[0]] if interval else None


def number(value: float | str | None) -> str:
    """A hyper-parameter: a number to four digits, or a choice as it is."""
    if isinstance(value, str):
        return value
    return UNKNOWN if value is None else f"{value:.4g}"


def percent(share: float | None) -> str:
    """A share of 1, to a whole per cent."""
    return UNKNOWN if share is None else f"{100 * share:.0f} %"


def checkpoint(pair: Mapping[str, Any]) -> str:
    """A checkpoint by trial and step."""
    return f"{pair['trial_id']} step {pair['step']}"


def seed_source(separation: SeparationMethod) -> str:
    """The spread between seeds and its source."""
    if separation["seed_sd_source"] == "unknown":
        return "spread between seeds not measured"
    model = separation.get("model")
    sources = {
        # only in boards of version 0.1.0
        "prior": "assumed by version 0.1.0, not measured",
        "config": "by the config",
        "rotation": f"from {model['trials']} trials under {model['seeds']} seeds" if model else "",
        "replicates": f"from replicates, {separation['seed_sd_df'] or 0:.0f} degrees of freedom",
    }
    known = model["seed_sd"] if model and separation["seed_sd_source"] == "rotation" else separation["seed_sd"]
    return f"seed sd {nats(known)} {sources[separation['seed_sd_source']]}"
