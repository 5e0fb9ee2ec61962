"""How many steps does stopping trials save, and what does it cost in choices? Replays of recorded trials.

Real trials (`benchmarks/data/curves_*.npz`, written by `benchmarks.recording.__main__`) are put into random orders and
replayed as sweeps on 1, 4 and 8 lanes, each with several rules: ours (`sweeps.pruning`), Ray Tune's ASHA and the median
rule, both with the held-out objective and with the running loss, and nobody. Sweeps are all trials of an LR regime, and
16 drawn from one regime or from all. Trials that diverge end by themselves, whoever else stops trials.

- executed: steps over those of all epochs in full; likewise among stable trials, those that do not diverge.
- worse choices: sweeps whose lowest final objective is above the one without stopping by more than a seed's sd.
- ASHA and the median rule at the same loss: of their parametrisations, that with the fewest steps among those with no
  more worse choices than ours on the same replays, or than 5 %; chosen in hindsight, which favours them.

Our constants were set on `--part tuning` (the trained grid of the tiny model); `judging`, the default, is other trials
of the tiny model, and trials of the 135M model. Intervals (95 %) are over orders; the recorded trials stay the same.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import machine, parser, print_result, say
from benchmarks.intervals import proportion, ratio_of_means
from benchmarks.pruning.decks import Deck, decks, together
from benchmarks.pruning.replay import Recorded, Rule, Sweep, replay
from benchmarks.pruning.rules import evidence, nobody, parametrised
from benchmarks.recording.curves import DATA, load
from sweeps.pruning.dominance import LEVEL

LANES = (1, 4, 8)
SHORT = 16
PARTS = {"judging": ("curves_tiny", "curves_135m"), "tuning": ("grid_tiny",)}
LEAST_TRIALS = 4
"""A regime with fewer recorded trials is not replayed."""

TARGETS = {"executed": 0.5, "executed_of_stable": 0.7, "worse_choices": 0.05}

Case = tuple[str, Sequence[Recorded], float]
"""Name of the order, the trials in it, a seed's sd."""


def main() -> None:
    """Runs the benchmark."""
    options = parse()
    result: dict[str, Any] = {"machine": machine(), "part": options.part, "level": options.level}
    for name in PARTS[options.part]:
        file = DATA / f"{name}.npz"
        result[name] = source(name, decks(load(file)), options) if file.is_file() else {"skipped": f"{file}: not there"}
    print_result(result)


def parse() -> argparse.Namespace:
    """The command line."""
    command = parser("pruning", "Steps saved and choices lost by stopping trials: ours, ASHA, median.", "--orders 50")
    command.add_argument("--orders", type=int, default=200, help="random orders of each regime and kind of sweep")
    command.add_argument("--part", choices=list(PARTS), default="judging", help="which recordings")
    command.add_argument("--level", type=float, default=LEVEL, help="of our rule")
    command.add_argument("--alone", action="store_true", help="our rule alone, without ASHA and the median rule")
    return command.parse_args()


def source(name: str, dealt: list[Deck], options: argparse.Namespace) -> dict[str, Any]:
    """Everything about the trials of one recording."""
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
    """Random orders of a deck, the same for every rule and number of lanes."""
    draw = np.random.default_rng([len(deck.trials), deck.order])
    shuffled = [draw.permutation(len(deck.trials))[:size].tolist() for _ in range(orders)]
    return [
        (f"{deck.name} {number}", [deck.trials[place] for place in order], deck.seed_sd)
        for number, order in enumerate(shuffled)
    ]


def judged(cases: Sequence[Case], lanes: int, options: argparse.Namespace) -> dict[str, Any]:
    """All rules on the same orders, with so many lanes."""
    ours = run(cases, lanes, partial(evidence, options.level))
    result = {"nobody": figures(cases, run(cases, lanes, nobody)), "ours": figures(cases, ours)}
    regimes = sorted({_regime(case) for case in cases})
    if len(regimes) > 1:
        result["ours"]["by_regime"] = {
            regime: figures(*_part(cases, ours, [_regime(case) == regime for case in cases])) for regime in regimes
        }
    values = {name: result["ours"][name]["value" if name == "worse_choices" else "ratio"] for name in TARGETS}
    result["met"] = {name: bool(values[name] <= limit) for name, limit in TARGETS.items()}
    if not options.alone:
        for family, variants in parametrised().items():
            sweeps = {name: run(cases, lanes, rule) for name, rule in variants.items()}
            result[family] = {
                what: at_loss(cases, ours, sweeps, limit)
                for what, limit in (("at our loss", values["worse_choices"]), ("at 5 %", TARGETS["worse_choices"]))
            }
    return result


def run(cases: Sequence[Case], lanes: int, make_rule: Callable[[], Rule]) -> list[Sweep]:
    """One rule on all orders; it begins anew in each."""
    return [replay(trials, lanes, make_rule()) for _, trials, _ in cases]


def figures(cases: Sequence[Case], sweeps: Sequence[Sweep]) -> dict[str, Any]:
    """What a rule saved and lost."""
    names = [name for name, _, _ in cases]
    stable = np.array([_steps(trials, sweep, stable=True) for (_, trials, _), sweep in zip(cases, sweeps, strict=True)])
    whole = np.array([_steps(trials, sweep, stable=False) for (_, trials, _), sweep in zip(cases, sweeps, strict=True)])
    return {
        "executed": ratio_of_means(whole[:, 0], whole[:, 1], names),
        "executed_of_stable": ratio_of_means(stable[:, 0], stable[:, 1], names),
        "worse_choices": proportion(sum(worse(cases, sweeps)), len(cases)),
    }


def in_words(found: Mapping[str, Any]) -> str:
    """The three figures of a rule, short."""
    executed, stable, lost = (found[name] for name in TARGETS)
    return f"{executed['ratio']:.3f} of the steps, {stable['ratio']:.3f} of stable trials', {lost['value']:.3f} worse"


def worse(cases: Sequence[Case], sweeps: Sequence[Sweep]) -> list[bool]:
    """Of each sweep, whether it chose worse than without stopping by more than a seed's sd (of 0 if unknown)."""
    found = []
    for (_, trials, seed_sd), sweep in zip(cases, sweeps, strict=True):
        best = min(trial.objective for trial in trials)
        found.append(sweep.chosen > best + (0.0 if math.isnan(seed_sd) else seed_sd))
    return found


def at_loss(
    cases: Sequence[Case], ours: Sequence[Sweep], others: Mapping[str, list[Sweep]], limit: float
) -> dict[str, Any] | None:
    """The parametrisation with the fewest steps and no more worse choices than that; None if there is none."""
    allowed = {name: sweeps for name, sweeps in others.items() if np.mean(worse(cases, sweeps)) <= limit}
    if not allowed:
        return None
    steps = {name: np.array([sum(sweep.executed) for sweep in sweeps], float) for name, sweeps in allowed.items()}
    best = min(steps, key=lambda name: float(steps[name].sum()))
    mine = np.array([sum(sweep.executed) for sweep in ours], float)
    return {
        "parametrisation": best,
        **figures(cases, allowed[best]),
        "our_steps_over_its": ratio_of_means(mine, steps[best], [name for name, _, _ in cases]),
    }


def _steps(trials: Sequence[Recorded], sweep: Sweep, *, stable: bool) -> tuple[float, float]:
    """Steps executed and planned, of all trials or of those that do not diverge."""
    counted = [place for place, trial in enumerate(trials) if not (stable and trial.diverged)]
    return sum(sweep.executed[place] for place in counted), sum(trials[place].steps_planned for place in counted)


def _regime(case: Case) -> str:
    return case[0].partition(" ")[0]


def _part(cases: Sequence[Case], sweeps: Sequence[Sweep], mask: Sequence[bool]) -> tuple[list[Case], list[Sweep]]:
    """Some of the orders."""
    chosen = [place for place, wanted in enumerate(mask) if wanted]
    return [cases[place] for place in chosen], [sweeps[place] for place in chosen]


if __name__ == "__main__":
    main()
