"""PURE. Advice for the next sweep from a sweep's evidence: config changes with their reasons.

A range moves only if the winner and every setting tied with it lie at one end, and settings elsewhere are worse. For
hyper-parameters other than the peak LR, only settings with a similar peak LR count. Ties are replicated, not searched
again. The thresholds are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from analysis.advice.evidence import Advice, Setting, Span, SweepEvidence
from analysis.advice.too_little import cut_answers, too_little
from analysis.output.formats import rate

# Part of a range, on its scale, that counts as its end.
EDGE = 0.2

# Part of the range of peak LRs within which two settings have a similar one. The LR moves the loss most: a setting
# with another LR says nothing about the other hyper-parameters.
LIKE = 0.1

# Settings elsewhere that must differ from the winner before a range moves.
APART = 2

# Factor by which a bound on a log scale moves; on a linear one, half of the range is added.
WIDER = 2.0

# Share of diverged trials from which on the peak LR is too high, not one trial unlucky.
MANY_DIVERGED = 0.2

# Tied settings that, where no difference is established, show that the range does not matter.
FLAT_SETTINGS = 4

# Fresh seeds for each tied setting: the fewest that show a spread.
SEEDS_EACH = 2

LABELS = {"peak_lr": "peak LR", "warmup_fraction": "warm-up fraction", "decay_floor": "floor"}

SMALL_NUMBER = 0.01  # below it a value is written as a power of ten

# Limits of a widened range, for any evidence.
LIMITS = {"warmup_fraction": (0.0, 0.5), "decay_floor": (1e-8, math.inf), "peak_lr": (1e-8, math.inf)}


def advise(seen: SweepEvidence) -> list[Advice]:
    """All advice for the next sweep, the most important first."""
    if not seen.settings:
        return [*_nothing_ranked(seen)]
    ends, ties = [*_at_an_end(seen)], [*_ties(seen)]
    # A flat surface asks for fewer trials, not for more, and has no end to look beyond.
    flat = any(one.rule == "flat" for one in ties)
    return [
        *_too_high(seen),
        *(ends or ([] if flat else _outermost(seen))),
        *cut_answers(seen),
        *([] if flat else too_little(seen)),
        *ties,
        *_data(seen),
        *_areas(seen),
        *_no_gain(seen),
    ]


def changes(advice: Sequence[Advice]) -> dict[str, tuple[Any, str]]:
    """Value and reason by dotted key; the first of two rules that change a key prevails."""
    found: dict[str, tuple[Any, str]] = {}
    for one in advice:
        for key, value in one.changes.items():
            found.setdefault(key, (value, one.reason))
    return found


def _nothing_ranked(seen: SweepEvidence) -> Iterator[Advice]:
    lowest = min((params["peak_lr"] for params in seen.diverged if "peak_lr" in params), default=None)
    if lowest is None:
        yield Advice("no_evidence", "No trial has held-out scores. Fix what failed, then run the same sweep again.")
        return
    reason = f"No trial was completed; they diverged from a peak LR of {_number(lowest)} on. Search below half of it."
    yield Advice("too_high", reason, {**_range("peak_lr", lowest / 20, lowest / 2), **_floor_below(seen, lowest / 2)})


def _too_high(seen: SweepEvidence) -> Iterator[Advice]:
    share = len(seen.diverged) / seen.ended if seen.ended else 0.0
    span = seen.space.get("peak_lr")
    if share < MANY_DIVERGED or span is None:
        return
    text = f"{len(seen.diverged)} of {seen.ended} trials diverged"
    lowest = min(params["peak_lr"] for params in seen.diverged)
    stable = [s.params["peak_lr"] for s in seen.settings if s.params["peak_lr"] < lowest]
    if seen.settings[0].params["peak_lr"] >= lowest or not stable:
        clip = {} if seen.max_grad_norm else {"training.max_grad_norm": 1.0}
        cure = "Clip gradients." if clip else "Lengthen the warm-up, and look at the samples before the divergence."
        yield Advice("diverged_anywhere", f"{text}, not only at the highest peak LRs. {cure}", clip)
        return
    high = _rounded(math.sqrt(max(stable) * lowest))
    if high > span.low:  # else the range would be empty
        reason = (
            f"{text}, all at peak LRs of {_number(lowest)} and above, while {_number(max(stable))} was stable. "
            f"Search below {_number(high)}."
        )
        yield Advice("too_high", reason, {"space.peak_lr.high": high, **_floor_below(seen, high)})


def _at_an_end(seen: SweepEvidence) -> Iterator[Advice]:
    near = [setting for setting in seen.settings if setting.tied or setting is seen.settings[0]]
    for name, span in seen.space.items():
        others = (s for s in seen.settings if s not in near and name in s.params)
        elsewhere = [span.place(s.params[name]) for s in others if name == "peak_lr" or _like(seen, s)]
        places = [span.place(s.params[name]) for s in near if name in s.params]
        if not places:
            continue
        at_high = min(places) > 1 - EDGE and sum(place <= 1 - EDGE for place in elsewhere) >= APART
        at_low = max(places) < EDGE and sum(place >= EDGE for place in elsewhere) >= APART
        if at_high and not _diverged_above(seen, name, seen.settings[0].params[name]):
            yield _moved(name, span, "high", seen.settings[0])
        elif at_low:
            yield _moved(name, span, "low", seen.settings[0])


def _outermost(seen: SweepEvidence) -> Iterator[Advice]:
    """Where the best peak LR is the highest or lowest tried: the optimum is not bracketed."""
    span, winner = seen.space.get("peak_lr"), seen.settings[0].params.get("peak_lr")
    tried = [peak for setting in seen.settings if (peak := setting.params.get("peak_lr")) is not None]
    if span is None or winner is None or len(set(tried)) < 2:
        return
    if winner == max(tried) and not _diverged_above(seen, "peak_lr", winner):
        where, end = "highest", span.high
    elif winner == min(tried):
        where, end = "lowest", span.low
    else:
        return
    # Which of the two: the range's end leaves room, or it does not.
    room = abs(span.place(winner) - span.place(end)) > EDGE
    way = "raise" if where == "highest" else "lower"
    todo = "Run more trials there." if room else f"Run more trials, and {way} the bound."
    reason = f"The best peak LR, {_number(winner)}, is the {where} tried (range to {_number(end)}). {todo}"
    yield Advice("outermost", reason)


def _like(seen: SweepEvidence, setting: Setting) -> bool:
    span, peaks = seen.space.get("peak_lr"), [one.params.get("peak_lr") for one in (seen.settings[0], setting)]
    if span is None or peaks[0] is None or peaks[1] is None:
        return True  # the peak LR is fixed, the same for all
    return abs(span.place(peaks[0]) - span.place(peaks[1])) <= LIKE


def _moved(name: str, span: Span, end: Literal["low", "high"], winner: Setting) -> Advice:
    width = span.high - span.low
    if end == "high":
        value = span.high * WIDER if span.log else span.high + width / 2
    else:
        value = span.low / WIDER if span.log else span.low - width / 2
    lowest, highest = LIMITS.get(name, (0.0, math.inf))
    value = _rounded(min(max(value, lowest), highest))
    where, way = ("upper", "Raise") if end == "high" else ("lower", "Lower")
    reason = (
        f"The best {LABELS.get(name, name)}, {_number(winner.params[name])}, is at the {where} end of the range "
        f"({_number(span.low)} to {_number(span.high)}), and values elsewhere score worse. "
        f"{way} the {where} bound to {_number(value)}."
    )
    return Advice("at_an_end", reason, {f"space.{name}.{end}": value})


def _ties(seen: SweepEvidence) -> Iterator[Advice]:
    tied = [setting for setting in seen.settings if setting.tied]
    if len(seen.settings) < 2 or (seen.seeds_known and not tied):
        return
    span = seen.space.get("peak_lr")
    everything = len(tied) == len(seen.settings) - 1
    if span and everything and len(seen.settings) >= FLAT_SETTINGS:
        places = [span.place(setting.params["peak_lr"]) for setting in seen.settings]
        if max(places) - min(places) >= 0.5:
            reason = (
                f"All {len(seen.settings)} settings are tied, over {100 * (max(places) - min(places)):.0f} % of the "
                "range of peak LRs. The LR does not limit this sweep: run fewer trials, and improve the data."
            )
            yield Advice("flat", reason, {"search.trials": max(FLAT_SETTINGS, seen.trials // 2)})
            return
    if any(setting.replicated for setting in seen.settings):
        return  # replicates did not separate them: more of the same will hardly do
    contenders = min(max(len(tied) + 1, 2), 4)
    why = f"{len(tied) + 1} settings are tied" if seen.seeds_known else "The spread between seeds was not measured"
    budget = max(seen.confirm_budget, contenders * SEEDS_EACH)
    reason = f"{why}. Train the best {contenders} with {SEEDS_EACH} more seeds each (confirm.budget={budget})."
    yield Advice("tie", reason, {"confirm.budget": budget} if budget > seen.confirm_budget else {})


def _data(seen: SweepEvidence) -> Iterator[Advice]:
    measured = seen.more_data == "more data helps"
    if not measured and not (seen.still_falling and seen.more_data != "more data hardly helps"):
        return
    said = (
        "Training on part of the data was significantly worse"
        if measured
        else "The best trial's loss still fell at the end of its epoch"
    )
    if seen.data_limit is None:
        yield Advice("more_data", f"{said}, and all samples were used. Collect more, rather than train twice on these.")
        return
    twice = 2 * seen.data_limit
    yield Advice("more_data", f"{said}. Use {twice:,} samples instead of {seen.data_limit:,}.", {"data.limit": twice})


def _areas(seen: SweepEvidence) -> Iterator[Advice]:
    if not seen.worse:
        return
    winner = seen.settings[0]
    named = ", ".join(f"{area} (by {delta:.3f})" for area, delta in sorted(seen.worse.items()))
    passing = next((s for s in seen.settings[1:] if s.passes), None)
    peak, span = winner.params.get("peak_lr"), seen.space.get("peak_lr")
    if passing and peak is not None and span and span.low < peak and passing.params.get("peak_lr", peak) < peak:
        reason = (
            f"The best setting is worse than the base model in {named}; {passing.trial_id} at the lower peak LR "
            f"{_number(passing.params['peak_lr'])} is not. Search below {_number(peak)}."
        )
        yield Advice("worse_areas", reason, {"space.peak_lr.high": _rounded(peak), **_floor_below(seen, peak)})
        return
    remedy = "Mix samples of its kind into the training set, or accept the loss and say so in not_worse_by."
    yield Advice("worse_areas", f"The best setting is worse than the base model in {named}. {remedy}")


def _no_gain(seen: SweepEvidence) -> Iterator[Advice]:
    if seen.gain is not None and seen.gain[0] <= 0:
        yield Advice(
            "no_gain",
            "The best setting is not significantly better than the base model. Look at the data and the held-out "
            "areas before more trials.",
        )


def _diverged_above(seen: SweepEvidence, name: str, value: float) -> bool:
    return name == "peak_lr" and any(params.get(name, 0.0) > value for params in seen.diverged)


def _floor_below(seen: SweepEvidence, peak: float) -> dict[str, Any]:
    # The config check refuses a floor range that reaches above the highest peak: then a tenth to a fifth of that peak.
    span = seen.space.get("decay_floor")
    return _range("decay_floor", peak / 10, peak / 5) if span and span.high > peak else {}


def _range(name: str, low: float, high: float) -> dict[str, Any]:
    return {f"space.{name}.low": _rounded(low), f"space.{name}.high": _rounded(high)}


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")  # a bound is no measurement: two digits


def _number(value: float) -> str:
    return rate(value) if 0 < value < SMALL_NUMBER else f"{value:.3g}"
