"""How good is the setting that a search of few trials chooses? Replays on loss surfaces without noise of their own.

Every method proposes settings, sees their objective with noise, and chooses the setting with the lowest seen objective,
as the leaderboard does before replicates. Its regret is the true objective of that setting above the true minimum of
the space, in milli-nats a token. Methods are paired: same surface, seed, and noise by trial number.

Ours is `sweeps.search.samplers.make_sampler` with a config's defaults and the recommended point first. The judging
surfaces are of other models than those for tuning its constants (`benchmarks.selection.surfaces.halves`). The
recommended point was read off all of them: hence the jitter, and TPE with the same point.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning

from benchmarks.common import machine, parser, print_result, say
from benchmarks.intervals import ratio_of_means
from benchmarks.selection import surfaces
from benchmarks.selection.grid_surface import Grid, moved_grids
from benchmarks.selection.grid_surface import space as grid_space
from benchmarks.selection.replay import PLANNED, UNPLANNED, Case, draw_noise, regret
from benchmarks.selection.surfaces import LR_SURFACES, halves

NOISE_NATS = (0.0003, 0.001, 0.003)  # sd of the noise on an objective, nats a token
TRIALS = (8, 16, 32)
JUDGED_TRIALS = 16  # the trials of a default sweep
GRID_SEEDS = 5  # moved copies of the one grid, for each of --seeds
MILLI = 1000.0
METHODS = ("ours", "tpe_default", "tpe_started", "offset_grid", "project_grid", "random")

# What is to hold at 16 trials: our mean regret over the other's, or the upper end of that ratio's 95 % interval.
TARGETS = {"tpe_default": ("ratio", 0.6), "tpe_started": ("upper", 1.1), "offset_grid": ("upper", 1.1)}

Regrets = dict[str, dict[int, np.ndarray]]  # by method and trials: (cases, levels of noise), milli-nats a token


def main() -> None:
    options = parse()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    result: dict[str, Any] = {"machine": machine(), "noise_milli_nats": [MILLI * noise for noise in NOISE_NATS]}
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
    command.add_argument("--methods", nargs="+", default=METHODS, choices=[*UNPLANNED, *PLANNED])
    return command.parse_args()


def sources(options: argparse.Namespace) -> Iterator[tuple[str, list[Case] | str]]:
    """The cases of each source of surfaces, or the reason why there are none."""
    if LR_SURFACES.is_file():
        tuning, judging = halves(surfaces.measured_surfaces())
        chosen = surfaces.jittered(
            (judging if options.part == "judging" else tuning)[: options.surfaces], options.seeds
        )
        yield "lr_surfaces", [Case(surface, number, surfaces.space()) for number, surface in enumerate(chosen)]
    else:
        yield "lr_surfaces", f"{LR_SURFACES} is not there"
    if options.part == "judging":
        grid = Grid.read()
        moved = moved_grids(grid, GRID_SEEDS * options.seeds)
        yield "grid_tiny", [Case(surface, number, grid_space(grid)) for number, surface in enumerate(moved)]


def run(name: str, cases: Sequence[Case], options: argparse.Namespace) -> Regrets:
    lengths = [trials for trials in TRIALS if trials <= options.longest]
    regrets: Regrets = {}
    for method in options.methods:
        started = time.monotonic()
        regrets[method] = {trials: np.zeros((len(cases), len(NOISE_NATS))) for trials in lengths}
        for i, case in enumerate(cases):
            for j, sd in enumerate(NOISE_NATS):
                for trials, value in _regrets(method, case, sd, lengths, options.lanes):
                    regrets[method][trials][i, j] = MILLI * value
        say(f"{name}: {method}, {len(cases)} cases in {time.monotonic() - started:.0f} s")
    return regrets


def _regrets(method: str, case: Case, sd: float, lengths: Sequence[int], lanes: int) -> Iterator[tuple[int, float]]:
    if method in PLANNED:
        for trials in lengths:
            yield trials, regret(case, PLANNED[method](case, draw_noise(case, sd, trials), lanes))
        return
    seen = UNPLANNED[method](case, draw_noise(case, sd, max(lengths)), lanes)
    for trials in lengths:
        yield trials, regret(case, seen[:trials])


def judged(cases: Sequence[Case], regrets: Regrets) -> dict[str, Any]:
    clusters = [case.surface.name for case in cases]
    result: dict[str, Any] = {"cases": len(cases), "surfaces": len(set(clusters)), "mean_regret_milli_nats": {}}
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
    result["targets_at_16_trials"] = {
        other: {"must": f"{what} <= {limit}", "met": result["ours_over"][other][JUDGED_TRIALS]["all"][what] <= limit}
        for other, (what, limit) in TARGETS.items()
        if other in others and JUDGED_TRIALS in regrets["ours"]
    }
    return result


def ratios(ours: np.ndarray, other: np.ndarray, clusters: Sequence[str]) -> dict[str, dict[str, float]]:
    """The ratio of mean regrets for each level of noise, and over all.

    Args:
        ours: Regrets, (cases, levels of noise).
        other: The other method's regrets on the same cases.
        clusters: Each case's surface; the seeds of a surface are resampled together.
    """
    parts = {f"{MILLI * sd:g}": (ours[:, [j]], other[:, [j]]) for j, sd in enumerate(NOISE_NATS)} | {
        "all": (ours, other)
    }
    return {name: ratio_of_means(mine.sum(axis=1), its.sum(axis=1), clusters) for name, (mine, its) in parts.items()}


if __name__ == "__main__":
    main()
