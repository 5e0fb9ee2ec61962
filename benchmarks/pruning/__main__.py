"""How many steps does stopping trials save, and what does it cost in choices? Replays of recorded trials.

Real trials (`benchmarks/data/curves_*.npz`, by `benchmarks.recording`) are replayed as sweeps in random orders on 1, 4
and 8 lanes. The rules are ours (`sweeps.pruning`), Ray Tune's ASHA and the median rule, each with the held-out
objective and with the running loss, and no rule. Sweeps are all trials of an LR regime, and 16 drawn from one regime or
from all. Diverging trials end by themselves under every rule.

- executed: steps over those of all epochs in full; the same among stable trials.
- worse choices: sweeps whose lowest final objective is above the one without stopping by more than a seed sd.
- ASHA and the median rule at the same loss: the parametrization with the fewest steps among those with no more worse
  choices than ours on the same replays, or than 5 %. Choosing it in hindsight favors them.

Our constants were set on `--part tuning` (the trained grid of the tiny model); `judging`, the default, is other trials
of the tiny model, and trials of the 135M model. Intervals (95 %) are over orders; the recorded trials stay the same.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import machine, parser, print_result, say
from benchmarks.intervals import proportion, ratio_of_means
from benchmarks.pruning.decks import Deck, decks, together
from benchmarks.pruning.replay import Recorded, Rule, Sweep, replay
from benchmarks.pruning.rules import evidence, never_stop, parametrized
from benchmarks.recording.curves import DATA, load
from sweeps.pruning.dominance import LEVEL

LANES = (1, 4, 8)  # trials at once
SHORT = 16  # trials of a short sweep
PARTS = {"judging": ("curves_tiny", "curves_135m"), "tuning": ("grid_tiny",)}
# A regime with fewer recorded trials is not replayed.
LEAST_TRIALS = 4

TARGETS = {"executed": 0.5, "executed_of_stable": 0.7, "worse_choices": 0.05}  # at most

# Name of the order, the trials in it, a seed's sd.
Case = tuple[str, Sequence[Recorded], float]


def main() -> None:
    options = parse()
    result: dict[str, Any] = {"machine": machine(), "part": options.part, "level": options.level}
    for file in options.recordings or [DATA / f"{name}.npz" for name in PARTS[options.part]]:
        name, there = file.stem, file.is_file()
        result[name] = source(name, decks(load(file)), options) if there else {"skipped": f"{file}: not there"}
    print_result(result)


def parse() -> argparse.Namespace:
    command = parser("pruning", "Steps saved and choices lost by stopping trials: ours, ASHA, median.", "--orders 50")
    command.add_argument("--orders", type=int, default=200, help="random orders of each regime and kind of sweep")
    command.add_argument("--part", choices=list(PARTS), default="judging", help="which recordings")
    command.add_argument("--recordings", type=Path, nargs="+", help="other recorded curves, instead of a part's")
    command.add_argument("--level", type=float, default=LEVEL, help="of our rule")
    command.add_argument("--alone", action="store_true", help="only our rule, without ASHA and the median rule")
    return command.parse_args()


def source(name: str, dealt: list[Deck], options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one recording."""
    result: dict[str, Any] = {
        deck.name: {
            "trials": len(deck.trials),
            "diverged": sum(trial.diverged for trial in deck.trials),
            "seed_sd": None if math.isnan(deck.seed_sd) else round(deck.seed_sd, 4),
        }
        for deck in dealt
    }
    usable = [deck for deck in dealt if len(deck.trials) >= LEAST_TRIALS]
    kinds: dict[str, tuple[list[Deck], int | None]] = {
        "all of a regime": (usable, None),
        f"{SHORT} of a regime": ([deck for deck in usable if len(deck.trials) > SHORT], SHORT),
        f"{SHORT} of all": ([deck for deck in together(usable) if len(deck.trials) > SHORT], SHORT),
    }
    for kind, (chosen, size) in kinds.items():
        cases = [case for deck in chosen for case in drawn(deck, size, options.orders)]
        if cases:
            result[kind] = {}
            for lanes in LANES:
                found = result[kind][f"{lanes} lanes"] = judged(cases, lanes, options)
                say(f"{name}: {kind}, {lanes} lanes, {len(cases)} orders: {in_words(found['ours'])}")
    return result


def drawn(deck: Deck, size: int | None, orders: int) -> list[Case]:
    """Draws orders of a deck, the same for every rule and number of lanes."""
    draw = np.random.default_rng([len(deck.trials), deck.order])
    shuffled = [draw.permutation(len(deck.trials))[:size].tolist() for _ in range(orders)]
    return [
        (f"{deck.name} {number}", [deck.trials[place] for place in order], deck.seed_sd)
        for number, order in enumerate(shuffled)
    ]


def judged(cases: Sequence[Case], lanes: int, options: argparse.Namespace) -> dict[str, Any]:
    """Replays all rules on the same orders."""
    ours = run(cases, lanes, partial(evidence, options.level))
    result = {"none": figures(cases, run(cases, lanes, never_stop)), "ours": figures(cases, ours)}
    regimes = sorted({_regime(case) for case in cases})
    if len(regimes) > 1:
        result["ours"]["by_regime"] = {
            regime: figures(*_part(cases, ours, [_regime(case) == regime for case in cases])) for regime in regimes
        }
    values = {name: result["ours"][name]["value" if name == "worse_choices" else "ratio"] for name in TARGETS}
    result["met"] = {name: bool(values[name] <= limit) for name, limit in TARGETS.items()}
    if not options.alone:
        for family, variants in parametrized().items():
            sweeps = {name: run(cases, lanes, rule) for name, rule in variants.items()}
            result[family] = {
                what: at_loss(cases, ours, sweeps, limit)
                for what, limit in (("at our loss", values["worse_choices"]), ("at 5 %", TARGETS["worse_choices"]))
            }
    return result


def run(cases: Sequence[Case], lanes: int, make_rule: Callable[[], Rule]) -> list[Sweep]:
    """Replays one rule, without memory of other orders, on all orders."""
    return [replay(trials, lanes, make_rule()) for _, trials, _ in cases]


def figures(cases: Sequence[Case], sweeps: Sequence[Sweep]) -> dict[str, Any]:
    names = [name for name, _, _ in cases]
    stable = np.array([_steps(trials, sweep, stable=True) for (_, trials, _), sweep in zip(cases, sweeps, strict=True)])
    whole = np.array([_steps(trials, sweep, stable=False) for (_, trials, _), sweep in zip(cases, sweeps, strict=True)])
    return {
        "executed": ratio_of_means(whole[:, 0], whole[:, 1], names),
        "executed_of_stable": ratio_of_means(stable[:, 0], stable[:, 1], names),
        "worse_choices": proportion(sum(worse(cases, sweeps)), len(cases)),
    }


def in_words(found: Mapping[str, Any]) -> str:
    executed, stable, lost = (found[name] for name in TARGETS)
    return f"{executed['ratio']:.3f} of the steps, {stable['ratio']:.3f} of stable trials', {lost['value']:.3f} worse"


def worse(cases: Sequence[Case], sweeps: Sequence[Sweep]) -> list[bool]:
    """For each sweep, whether its choice is worse than without stopping by more than the seed sd (0 if unknown)."""
    found = []
    for (_, trials, seed_sd), sweep in zip(cases, sweeps, strict=True):
        best = min(trial.objective for trial in trials)
        found.append(sweep.chosen > best + (0.0 if math.isnan(seed_sd) else seed_sd))
    return found


def at_loss(
    cases: Sequence[Case], ours: Sequence[Sweep], others: Mapping[str, list[Sweep]], limit: float
) -> dict[str, Any] | None:
    """The parametrization with the fewest steps among those within the limit of worse choices; None without one."""
    allowed = {name: sweeps for name, sweeps in others.items() if np.mean(worse(cases, sweeps)) <= limit}
    if not allowed:
        return None
    steps = {name: np.array([sum(sweep.executed) for sweep in sweeps], float) for name, sweeps in allowed.items()}
    best = min(steps, key=lambda name: float(steps[name].sum()))
    mine = np.array([sum(sweep.executed) for sweep in ours], float)
    return {
        "parametrization": best,
        **figures(cases, allowed[best]),
        "our_steps_over_its": ratio_of_means(mine, steps[best], [name for name, _, _ in cases]),
    }


def _steps(trials: Sequence[Recorded], sweep: Sweep, *, stable: bool) -> tuple[float, float]:
    """Steps executed and planned, over all or over stable trials."""
    counted = [place for place, trial in enumerate(trials) if not (stable and trial.diverged)]
    return sum(sweep.executed[place] for place in counted), sum(trials[place].steps_planned for place in counted)


def _regime(case: Case) -> str:
    return case[0].partition(" ")[0]


def _part(cases: Sequence[Case], sweeps: Sequence[Sweep], mask: Sequence[bool]) -> tuple[list[Case], list[Sweep]]:
    chosen = [place for place, wanted in enumerate(mask) if wanted]
    return [cases[place] for place in chosen], [sweeps[place] for place in chosen]


if __name__ == "__main__":
    main()
