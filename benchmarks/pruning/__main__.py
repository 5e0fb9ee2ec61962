"""How many steps does stopping trials save, and what does it cost in choices? Replays of recorded trials.

Real trials (`benchmarks/data/curves_*.npz`, by `benchmarks.recording`) are replayed as sweeps in random orders on 1, 4
and 8 lanes. The ways to stop trials: ours (the default: pausing, with the evidence rule on top, four seeds in
rotation), pausing with and without the evidence rule under one seed and four, the evidence rule alone, Ray Tune's ASHA
and the median rule, each with the held-out objective and with the running loss, and none. Sweeps are all trials of an
LR regime, and 16 drawn from one regime or from all. Diverging trials end by themselves in every way.

All trials of a regime were recorded under one seed. For seeds in rotation they are posed as trials of other seeds, so
that the evidence rule compares each with its own kind only; their scores stay those of one seed.

- executed: steps over those of all epochs in full; the same among stable trials.
- device_seconds: the same with all held-out scorings counted, for several shares that one scoring has in the time of a
  trial's steps: `training.checkpoints_at` of the defaults, and the scoring at the pause. `SHARES` says what is usual.
- time: from the first trial's start to the last one's end, over that without stopping. Lanes that wait count here only.
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
from sweeps.config.pausing import PAUSE_AT
from sweeps.pruning.dominance import LEVEL
from trainables.config.sections import TrainingConfig
from trainables.data.epoch import checkpoint_steps

LANES = (1, 4, 8)  # trials at once
SHORT = 16  # trials of a short sweep
PARTS = {"judging": ("curves_tiny", "curves_135m"), "tuning": ("grid_tiny",)}
# A regime with fewer recorded trials is not replayed.
LEAST_TRIALS = 4

SEEDS = 4  # in rotation by default
# One scoring of all held-out items over a trial's steps. A pass forward alone costs half of one with gradients of a
# LoRA, a third of a full fine-tune's: 0.05 is a tenth as many held-out tokens as training tokens, 0.2 is the recorded
# trials' own (48 items, 120 samples), 0.6 the demo's (240 items, 208 samples).
SHARES = (0.0, 0.05, 0.1, 0.2, 0.6)
JUDGED_SHARE = "0.1"

# At most. For worse choices the upper end of the interval counts too.
TARGETS = {"executed": 0.55, "device_seconds": 0.6, "worse_choices": 0.05}
WORSE_UPPER = 0.08
# Name: seeds in rotation, whether trials pause, whether the evidence rule stops them.
WAYS = {
    "none": (1, False, False),
    "ours": (SEEDS, True, True),
    "pause and evidence, one seed": (1, True, True),
    "pause alone": (SEEDS, True, False),
    "evidence alone, one seed": (1, False, True),
    "evidence alone, four seeds": (SEEDS, False, True),
}

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
    command.add_argument("--alone", action="store_true", help="only ours, none of the other ways to stop trials")
    command.add_argument("--short", action="store_true", help="only short sweeps, not all trials of a regime")
    command.add_argument("--trials", type=int, default=SHORT, help="of a short sweep")
    command.add_argument("--lanes", type=int, nargs="+", default=LANES, help="trials at once")
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
    short = options.trials
    kinds: dict[str, tuple[list[Deck], int | None]] = {
        "all of a regime": ([] if options.short else usable, None),
        f"{short} of a regime": ([deck for deck in usable if len(deck.trials) > short], short),
        f"{short} of all": ([deck for deck in together(usable) if len(deck.trials) > short], short),
    }
    for kind, (chosen, size) in kinds.items():
        cases = [case for deck in chosen for case in drawn(deck, size, options.orders)]
        if cases:
            result[kind] = {}
            for lanes in options.lanes:
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
    """Replays all ways on the same orders."""
    sweeps, result = dict[str, list[Sweep]](), dict[str, Any]()
    ways = {name: WAYS[name] for name in ("none", "ours")} if options.alone else WAYS
    for name, (seeds, pauses, by_evidence) in ways.items():
        rule = partial(evidence, options.level) if by_evidence else never_stop
        sweeps[name] = run(rotated(cases, seeds), lanes, rule, pauses)
        result[name] = figures(cases, sweeps[name], pauses, sweeps["none"])
    ours = sweeps["ours"]
    regimes = sorted({_regime(case) for case in cases})
    if len(regimes) > 1:
        in_regime = {regime: [_regime(case) == regime for case in cases] for regime in regimes}
        result["ours"]["by_regime"] = {
            regime: figures(_part(cases, mask), _part(ours, mask), True, _part(sweeps["none"], mask))
            for regime, mask in in_regime.items()
        }
    result["met"] = met(result["ours"])
    if not options.alone:
        for family, variants in parametrized().items():
            theirs = {name: run(cases, lanes, rule) for name, rule in variants.items()}
            limits = {"at our loss": result["ours"]["worse_choices"]["value"], "at 5 %": TARGETS["worse_choices"]}
            result[family] = {what: at_loss(cases, ours, theirs, limit) for what, limit in limits.items()}
    return result


def met(ours: Mapping[str, Any]) -> dict[str, bool]:
    lost = ours["worse_choices"]
    return {
        "executed": ours["executed"]["ratio"] <= TARGETS["executed"],
        "device_seconds": ours["device_seconds"][JUDGED_SHARE] <= TARGETS["device_seconds"],
        "worse_choices": bool(lost["value"] <= TARGETS["worse_choices"] and lost["interval"][1] <= WORSE_UPPER),
    }


def rotated(cases: Sequence[Case], seeds: int) -> list[Case]:
    """The cases with seeds in rotation over each one's trials."""
    if seeds == 1:
        return list(cases)
    return [(name, [t.under(place % seeds) for place, t in enumerate(trials)], sd) for name, trials, sd in cases]


def run(cases: Sequence[Case], lanes: int, make_rule: Callable[[], Rule], pauses: bool = False) -> list[Sweep]:
    """Replays one rule, without memory of other orders, on all orders."""
    return [replay(trials, lanes, make_rule(), pauses) for _, trials, _ in cases]


def figures(
    cases: Sequence[Case], sweeps: Sequence[Sweep], pauses: bool = False, unstopped: Sequence[Sweep] = ()
) -> dict[str, Any]:
    """Steps, time and choices.

    Args:
        cases: The orders.
        sweeps: Their replays.
        pauses: Whether trials paused, and were scored there.
        unstopped: The replays without stopping; without them only steps and choices are given.
    """
    names = [name for name, _, _ in cases]
    stable = np.array([_steps(trials, sweep, stable=True) for (_, trials, _), sweep in zip(cases, sweeps, strict=True)])
    whole = np.array([_steps(trials, sweep, stable=False) for (_, trials, _), sweep in zip(cases, sweeps, strict=True)])
    found = {
        "executed": ratio_of_means(whole[:, 0], whole[:, 1], names),
        "executed_of_stable": ratio_of_means(stable[:, 0], stable[:, 1], names),
        "worse_choices": proportion(sum(worse(cases, sweeps)), len(cases)),
    }
    if not unstopped:
        return found
    times = [np.array([sweep.intervals for sweep in side], float) for side in (sweeps, unstopped)]
    return {
        **found,
        "device_seconds": {f"{share:g}": _device_share(cases, sweeps, share, pauses) for share in SHARES},
        "time": ratio_of_means(*times, names),
    }


def _device_share(cases: Sequence[Case], sweeps: Sequence[Sweep], share: float, pauses: bool) -> float:
    """Device time of steps and scorings, over that of all epochs in full with the default's scorings."""
    default = TrainingConfig().checkpoints_at
    scored_at = sorted({*default, *([PAUSE_AT] if pauses else [])})
    spent, full = 0.0, 0.0  # in steps
    for (_, trials, _), sweep in zip(cases, sweeps, strict=True):
        for trial, executed in zip(trials, sweep.executed, strict=True):
            planned = trial.steps_planned
            scorings = sum(step <= executed for step in checkpoint_steps(scored_at, planned))
            spent += executed + share * planned * scorings
            full += planned * (1 + share * len(default))
    return round(spent / full, 4)


def in_words(found: Mapping[str, Any]) -> str:
    executed, stable, lost = (found[name] for name in ("executed", "executed_of_stable", "worse_choices"))
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


def _part(values: Sequence[Any], mask: Sequence[bool]) -> list[Any]:
    return [value for value, wanted in zip(values, mask, strict=True) if wanted]


if __name__ == "__main__":
    main()
