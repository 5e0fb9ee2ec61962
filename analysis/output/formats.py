"""Figures as text, the same in tables, sentences and pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.output.leaderboard import Interval, SeparationMethod
from trainables.config.hyperparameters import lr_text
from trainables.evaluation.objective import NLL, Measure

UNKNOWN = "-"
PARAM_LABELS = {"peak_lr": "peak LR", "warmup_fraction": "warm-up", "decay_floor": "floor"}
RATES = ("peak_lr", "decay_floor")
SMALL = 0.1  # a difference below it is shown to a thousandth, not to a hundredth


def nats(value: float | None) -> str:
    """A loss or gain to a thousandth of a nat."""
    return UNKNOWN if value is None else f"{value:.3f}"


def measure_of(board: Mapping[str, Any]) -> Measure:
    """The metric that decided; boards of earlier versions knew the loss alone."""
    return Measure((board.get("measure") or {}).get("metric", NLL))


def scored(board: Mapping[str, Any], objective: float | None) -> str:
    """An objective of the board as people read it, in the metric that decides."""
    return nats(None if objective is None else measure_of(board).turned(objective))


def cost_words(device_hours: float, price: float | None) -> str:
    """Device-hours, and what they cost where the price of one is known: `3.20 device-hours (8.00 at 2.5 each)`."""
    hours = f"{device_hours:.2f} device-hours"
    return hours if price is None else f"{hours} ({price * device_hours:,.2f} at {price:g} each)"


def with_interval(value: float | None, interval: Interval | None) -> str:
    """A value and its interval: `0.500 [0.400, 0.600]`."""
    if value is None:
        return UNKNOWN
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else f"{value:.3f} [unknown]"


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign, the minus as wide as the plus: `−2.39`, `+0.04`."""
    return f"{value:+.{digits}f}".replace("-", "−")


def change(value: float | None, interval: Interval | None, digits: int | None = None) -> str:
    """A difference with its sign and its 95 % interval, where known: `−2.39, 95 % CI −2.80 to −2.01`."""
    if value is None:
        return "unknown"
    digits = digits_for(value) if digits is None else digits
    if interval is None:
        return signed(value, digits)
    low, high = (signed(end, digits) for end in interval)
    return f"{signed(value, digits)}, 95 % CI {low} to {high}"


def digits_for(difference: float | None) -> int:
    """Decimals that show a difference: two, or three where it is small."""
    return 3 if difference is not None and abs(difference) < SMALL else 2


def negated(interval: Interval | None) -> Interval | None:
    """The interval of a gain, given that of a loss."""
    return [-interval[1], -interval[0]] if interval else None


def number(value: float | str | None) -> str:
    """A hyper-parameter: a number to four digits, or a choice as it is."""
    if isinstance(value, str):
        return value
    return UNKNOWN if value is None else f"{value:.4g}"


def rate(value: float | None) -> str:
    """A learning rate to two digits: `7.6e-4`."""
    return UNKNOWN if value is None else lr_text(value)


def percent(share: float | None) -> str:
    """A share of 1, to a whole per cent."""
    return UNKNOWN if share is None else f"{100 * share:.0f} %"


def share(value: float | None) -> str:
    """A scorer's mean: per cent where it is a share of 1, else the number."""
    return number(value) if value is not None and not 0 <= value <= 1 else percent(value)


def setting_value(name: str, value: float | str | None) -> str:
    """A hyper-parameter's value as people write it: rates as `7.6e-4`, the warm-up in per cent."""
    if value is None or isinstance(value, str):
        return number(value)
    if name == "warmup_fraction":
        return f"{100 * value:.1f} %"
    return rate(value) if name in RATES else number(value)


def setting_words(params: Mapping[str, Any]) -> str:
    """A setting: `7.6e-4, warm-up 7.6 %, floor 4.4e-5`, the peak LR first and without its name."""
    return ", ".join(
        rate(params[name])
        if name == "peak_lr"
        else f"{PARAM_LABELS.get(name, name)} {setting_value(name, params[name])}"
        for name in ordered(params)
    )


def ordered(names: Mapping[str, Any]) -> list[str]:
    """Hyper-parameters' names: the LR schedule's first, the others by name."""
    first = list(PARAM_LABELS)
    return sorted(names, key=lambda name: (first.index(name) if name in first else len(first), name))


def labeled(trial_id: str, params: Mapping[str, Any] | None) -> str:
    """A trial as people know it: `t0003 · 7.6e-4`; the id alone where it has no LR."""
    peak = (params or {}).get("peak_lr")
    return trial_id if peak is None else f"{trial_id} · {rate(peak)}"


def trial_name(board: Mapping[str, Any], trial_id: str) -> str:
    """A trial of a board, labeled with its peak LR."""
    found = (row for row in every_row(board) if row["trial_id"] == trial_id)
    return labeled(trial_id, next((row.get("params") for row in found), None))


def every_row(board: Mapping[str, Any]) -> Iterator[Any]:
    """All rows of a board, replicates after the row of their setting."""
    for row in board["rows"]:
        yield row
        yield from row.get("replicates") or ()


def checkpoint(board: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    """A checkpoint by trial, peak LR and step: `t0003 · 7.6e-4 at step 6`."""
    return f"{trial_name(board, pair['trial_id'])} at step {pair['step']}"


def seed_source(separation: SeparationMethod) -> str:
    """The spread between seeds and its source."""
    if separation["seed_sd_source"] == "unknown":
        return "spread between seeds not measured"
    model = separation.get("model")
    sources = {
        # only in boards of version 0.1.0
        "prior": "assumed by version 0.1.0, not measured",
        "config": "as the config states",
        "rotation": f"from {model['trials']} trials under {model['seeds']} seeds" if model else "",
        "replicates": f"from replicates, {separation['seed_sd_df'] or 0:.0f} degrees of freedom",
    }
    known = model["seed_sd"] if model and separation["seed_sd_source"] == "rotation" else separation["seed_sd"]
    return f"seed SD {nats(known)} {sources[separation['seed_sd_source']]}"
