"""How good is the setting that a search of few trials names? Replays on loss surfaces without noise of their own.

Every method proposes settings, sees their objective with noise, and names one: `ours` by the posterior mean, as the
leaderboard does (`analysis.stats.objective_model`), all others by the lowest seen objective. Its regret is the true
objective of that setting above the true minimum of the space, in milli-nats a token. Methods are paired: same surface,
seed, and noise by trial number. Noise is the same at every LR, or grows in proportion to it.

Ours is `sweeps.search.samplers.make_sampler` with a config's defaults and the recommended point first. The judging
surfaces are of other models than those for tuning its constants (`benchmarks.selection.surfaces.halves`). The
recommended point was read off all of them: hence the jitter, and TPE with the same point. `--table` judges on another
table of the same form, of models that nobody has looked at.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning

from benchmarks.common import machine, parser, print_result, say
from benchmarks.intervals import ratio_of_means
from benchmarks.selection import surfaces
from benchmarks.selection.grid_surface import Grid, moved_grids
from benchmarks.selection.grid_surface import space as grid_space
from benchmarks.selection.replay import (
    PLANNED,
    UNPLANNED,
    Case,
    Evaluated,
    Naming,
    by_model,
    draw_noise,
    lowest,
    regret,
)
from benchmarks.selection.surfaces import LR_SURFACES, halves

NOISE_NATS = (0.0003, 0.001, 0.003)  # sd of the noise on an objective in the middle of the LRs, nats a token
GROWTHS = (0.0, 1.0)  # power of the LR with which noise grows
LEVELS = tuple((sd, growth) for growth in GROWTHS for sd in NOISE_NATS)
TRIALS = (4, 8, 16)
FEW = 5  # trials, or fewer: the search is another one than the beginning of a longer search
GRID_SEEDS = 5  # moved copies of the one grid, for each of --seeds
MILLI = 1000.0
OURS = {"ours": by_model, "ours_lowest": lowest}  # the same trials, named differently
METHODS = ("ours", "ours_lowest", "tpe_default", "tpe_started", "offset_grid", "random")

# Highest ratio of mean regrets, ours over the other's, over all levels of noise, and of its interval's upper end.
TARGETS = {
    "tpe_default": {16: (0.6, 0.8)},
    "offset_grid": {4: (1.0, math.inf), 8: (1.0, math.inf), 16: (1.0, math.inf)},
}

Regrets = dict[str, dict[int, np.ndarray]]  # by method and trials: (cases, levels of noise), milli-nats a token


def main() -> None:
    options = parse()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    result: dict[str, Any] = {
        "machine": machine(),
        "noise": [{"milli_nats": MILLI * sd, "grows_as_lr_to": growth} for sd, growth in LEVELS],
    }
    for name, cases in sources(options):
        if isinstance(cases, str):
            say(f"{name}: skipped, {cases}")
            result[name] = {"skipped": cases}
            continue
        result[name] = judged(cases, run(name, cases, options))
    print_result(result)


def parse() -> argparse.Namespace:
    command = parser("selection", "Regret of the chosen setting: ours, Optuna's defaults, a grid.", "--seeds 8")
    command.add_argument("--seeds", type=int, default=2, help="of each surface")
    command.add_argument("--lanes", type=int, default=1, help="trials that run at once")
    command.add_argument("--part", choices=["judging", "tuning"], default="judging", help="which models' surfaces")
    command.add_argument(
        "--longest", type=int, default=max(TRIALS), choices=TRIALS, help="trials of the longest replay"
    )
    command.add_argument("--surfaces", type=int, help="use so many surfaces, for a quick look")
    command.add_argument("--table", type=Path, help="surfaces of another table, all of them, instead of a part")
    command.add_argument("--methods", nargs="+", default=METHODS, choices=[*OURS, *UNPLANNED, *PLANNED])
    return command.parse_args()


def sources(options: argparse.Namespace) -> Iterator[tuple[str, list[Case] | str]]:
    """The cases of each source of surfaces, or the reason why there are none."""
    if options.table or LR_SURFACES.is_file():
        tuning, judging = halves(surfaces.measured_surfaces(options.table or LR_SURFACES))
        part = judging if options.part == "judging" else tuning
        chosen = sorted([*tuning, *judging], key=lambda surface: surface.name) if options.table else part
        moved_surfaces = surfaces.jittered(chosen[: options.surfaces], options.seeds)
        yield "lr_surfaces", [Case(surface, number, surfaces.space()) for number, surface in enumerate(moved_surfaces)]
    else:
        yield "lr_surfaces", f"{LR_SURFACES} is not there"
    if options.part == "judging" and not options.table:
        grid = Grid.read()
        moved = moved_grids(grid, GRID_SEEDS * options.seeds)
        yield "grid_tiny", [Case(surface, number, grid_space(grid)) for number, surface in enumerate(moved)]


def run(name: str, cases: Sequence[Case], options: argparse.Namespace) -> Regrets:
    lengths = [trials for trials in TRIALS if trials <= options.longest]
    regrets: Regrets = {}
    shape = len(cases), len(LEVELS)
    for search, namings in searches(options.methods):
        started = time.monotonic()
        for method in namings:
            regrets[method] = {trials: np.zeros(shape) for trials in lengths}
        for i, j in np.ndindex(*shape):
            sd, growth = LEVELS[j]
            case = replace(cases[i], growth=growth)
            for trials, seen in searched(search, case, sd, lengths, options.lanes):
                for method, name_of in namings.items():
                    regrets[method][trials][i, j] = MILLI * regret(case, seen, name_of)
        say(f"{name}: {search}, {len(cases)} cases in {time.monotonic() - started:.0f} s")
    return regrets


def searches(methods: Sequence[str]) -> list[tuple[str, dict[str, Naming]]]:
    """Each search that the methods need, with the methods that name a setting after it."""
    own = {method: OURS[method] for method in methods if method in OURS}
    return [*([("ours", own)] if own else []), *((name, {name: lowest}) for name in methods if name not in OURS)]


def searched(
    search: str, case: Case, sd: float, lengths: Sequence[int], lanes: int
) -> Iterator[tuple[int, list[Evaluated]]]:
    """The trials of searches of each length."""
    alone = [trials for trials in lengths if search in PLANNED or trials <= FEW]
    for trials in alone:
        yield trials, {**UNPLANNED, **PLANNED}[search](case, draw_noise(case, sd, trials), lanes)
    if longer := [trials for trials in lengths if trials not in alone]:
        seen = UNPLANNED[search](case, draw_noise(case, sd, max(longer)), lanes)
        for trials in longer:
            yield trials, seen[:trials]


def judged(cases: Sequence[Case], regrets: Regrets) -> dict[str, Any]:
    clusters = [case.surface.group for case in cases]
    names = {case.surface.name for case in cases}
    result: dict[str, Any] = {
        "cases": len(cases), "surfaces": len(names), "models": len(set(clusters)), "mean_regret_milli_nats": {}
    }  # fmt: skip
    for method, by_trials in regrets.items():
        means = {
            trials: [round(float(mean), 3) for mean in values.mean(axis=0)] for trials, values in by_trials.items()
        }
        result["mean_regret_milli_nats"][method] = means
    others = [method for method in regrets if method != "ours"] if "ours" in regrets else []
    result["ours_over"] = {
        other: {trials: ratios(values, regrets[other][trials], clusters) for trials, values in regrets["ours"].items()}
        for other in others
    }
    result["targets"] = {
        f"{other}, {trials} trials": {
            "must": f"ratio <= {ratio:g}, upper end <= {upper:g}",
            "met": bool(found["ratio"] <= ratio and found["upper"] <= upper),
        }
        for other, limits in TARGETS.items()
        for trials, (ratio, upper) in limits.items()
        if other in others and trials in regrets["ours"]
        for found in [result["ours_over"][other][trials]["all"]]
    }
    return result


def ratios(ours: np.ndarray, other: np.ndarray, clusters: Sequence[str]) -> dict[str, dict[str, float]]:
    """The ratio of mean regrets for each level of noise, over constant and growing noise, and over all.

    Args:
        ours: Regrets, (cases, levels of noise).
        other: The other method's regrets on the same cases.
        clusters: Each case's model; its surfaces and their seeds are resampled together.
    """
    parts = {(f"{MILLI * sd:g} growing" if growth else f"{MILLI * sd:g}"): [j] for j, (sd, growth) in enumerate(LEVELS)}
    parts["constant"] = [j for j, (_, growth) in enumerate(LEVELS) if not growth]
    parts["growing"] = [j for j, (_, growth) in enumerate(LEVELS) if growth]
    parts["all"] = list(range(len(LEVELS)))
    return {
        name: ratio_of_means(ours[:, chosen].sum(axis=1), other[:, chosen].sum(axis=1), clusters)
        for name, chosen in parts.items()
    }


if __name__ == "__main__":
    main()
