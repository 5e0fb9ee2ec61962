"""What does the leaderboard of a default sweep claim, and is it true? Sweeps with known truth and recorded luck.

Settings of known worth are posed as a finished sweep and ranked by the product's own setting table, as `leaderboard()`
does (`benchmarks.confirm.posed_sweep`). Luck is that of recorded seeds (`benchmarks.confirm.recorded_luck`): the tiny
model, 8 LRs x 8 seeds x 64 items, and the 135M model on the demo's data, 4 LRs x 4 seeds x 240 items. Intervals are at
95 %.

- null: 2, 4 and 16 equal settings over the recorded LRs, under four seeds in rotation and under one; how many sweeps
  have a setting that is called worse.
- beside_confirmed: under four seeds and with 2 x 2 replicates of two contenders, which the product chooses; any setting
  called worse, the never-replicated ones included.
- power: 16 settings on a parabola of 20 sd a squared decade; settings called different from the best at true gaps of
  1.5 to 2.5 and 3 to 5 sd, against an oracle that knows each LR's sd (normal quantiles, the same pairs corrected for).
- planted: a sweep like the demo's, five settings under four seeds in rotation, one of them better than each other by 4
  sd: how often it is named, and how often by at least four of five sweeps. A sweep of five trials claims nothing.
- combination: 12 trials by the product's sampler on the recorded worth, seeds in rotation, pausing, 2 x 2 replicates:
  steps, replicates left out; regret of the named setting; false claims. Beside it the same trials without pausing, and
  12 trials under one seed named by the lowest score. The evidence rule, which would save further steps, is left out.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from scipy.stats import norm

from benchmarks.common import machine, parser, print_result, say
from benchmarks.confirm import combination
from benchmarks.confirm.posed_sweep import CONTENDERS, ROUNDS, Board, World
from benchmarks.confirm.recorded_luck import RecordedLuck
from benchmarks.intervals import bootstrap, clustered, proportion, ratio_of_means
from benchmarks.recording.curves import DATA
from sweeps.confirm.contenders import choose_contenders

RECORDINGS = (DATA / "curves_tiny.npz", DATA / "seeds_135m.npz")
SETTINGS, ITEMS, ROTATED = (2, 4, 16), (64, 240), (4, 1)
ALPHA = 0.05
CURVATURE = 20.0  # sd a squared decade
GAPS = {"2 sd": (1.5, 2.5), "4 sd": (3.0, 5.0)}
DEMO_SETTINGS, PLANTED_SDS = 5, 4.0
MOST_FALSE, MOST_FALSE_UPPER, LEAST_POWER, LEAST_NAMED = 0.05, 0.08, 1 / 3, 0.8  # targets


def main() -> None:
    options = parse()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    result: dict[str, Any] = {"machine": machine(), "sweeps": options.sweeps}
    for path in options.recordings:
        luck = RecordedLuck.read(path)
        found = result[path.stem] = {"seed_sd": {f"{10**x:.3g}": round(luck.sd(x), 4) for x in luck.decades.tolist()}}
        for part in options.parts:
            equal = {"settings": options.settings} if part in EQUAL else {}
            found[part] = PARTS[part](luck, options.sweeps, **equal)
            say(f"{path.stem}: {part} {json.dumps(found[part])}")
        found["met"] = met(found)
    print_result(result)


def parse() -> argparse.Namespace:
    command = parser("confirm.default_path", "What a default sweep claims, on settings of known worth.", "--sweeps 50")
    command.add_argument("--sweeps", type=int, default=200, help="of each kind")
    command.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    command.add_argument("--settings", nargs="+", type=int, default=SETTINGS, help=f"of {' and '.join(EQUAL)}")
    command.add_argument("--recordings", nargs="+", type=Path, default=RECORDINGS)
    return command.parse_args()


def null(luck: RecordedLuck, sweeps: int, settings: Sequence[int] = SETTINGS) -> dict[str, Any]:
    """Share of sweeps of equal settings with any called worse."""
    found = {}
    for number_of in settings:
        for items in ITEMS:
            for seeds in ROTATED:
                false = 0
                for number in range(sweeps):
                    world = World(luck, number_of, items, seeds, number)
                    false += bool(world.rank(world.search()).worse)
                found[f"{number_of} settings, {items} items, {seeds} seeds"] = proportion(false, sweeps)
    return found


def beside_confirmed(luck: RecordedLuck, sweeps: int, settings: Sequence[int] = SETTINGS) -> dict[str, Any]:
    """The same where the product's contenders are replicated."""
    found = {}
    for number_of in settings:
        for items in ITEMS:
            false = 0
            for number in range(sweeps):
                world = World(luck, number_of, items, ROTATED[0], number)
                trials = world.search()
                rounds = range(world.rotation, world.rotation + ROUNDS)
                trials += [
                    world.trial(int(name[1:]) - 1, seed, replicate=True)
                    for name in contenders(world.rank(trials), world.peak_lrs)
                    for seed in rounds
                ]
                false += bool(world.rank(trials).worse)
            found[f"{number_of} settings, {items} items"] = proportion(false, sweeps)
    return found


def contenders(board: Board, peak_lrs: Mapping[str, float]) -> tuple[str, ...]:
    """The settings that the product would replicate."""
    tied = set(board.ranked) - {board.named, *board.worse}
    return choose_contenders(board.ranked, tied, CONTENDERS, CONTENDERS * ROUNDS, None, peak_lrs)


def power(luck: RecordedLuck, sweeps: int) -> dict[str, Any]:
    """Settings called different from the named one on a parabola, by the product and by an oracle."""
    ours, oracles = (np.zeros((sweeps, len(GAPS), 2)) for _ in range(2))  # called different, and of how many
    wrong = 0
    for number in range(sweeps):
        world = World(luck, SETTINGS[-1], ITEMS[-1], ROTATED[0], number)
        sds = np.array([luck.sd(x) for x in world.decades])
        best = np.random.default_rng([number, 1]).uniform(*np.quantile(world.decades, [0.2, 0.8]))
        world.worth = CURVATURE * float(np.exp(np.log(sds).mean())) * (world.decades - best) ** 2
        trials = world.search()
        board = world.rank(trials)
        named, worse = int(board.named[1:]) - 1, {int(name[1:]) - 1 for name in board.worse}
        ours[number] = told_apart(world.worth, sds, named, worse)
        wrong += any(world.worth[k] <= world.worth[named] for k in worse)
        scores = np.array([luck.objective(trial.losses, world.items) for trial in trials if trial.losses is not None])
        lowest = int(np.argmin(scores))
        reach = norm.isf(ALPHA / (len(scores) * (len(scores) - 1))) * np.hypot(sds, sds[lowest])
        oracles[number] = told_apart(world.worth, sds, lowest, set(np.flatnonzero(scores - scores[lowest] > reach)))
    found: dict[str, Any] = {"sweeps_with_a_wrong_claim": proportion(wrong, sweeps)}
    for k, gap in enumerate(GAPS):
        columns = [*ours[:, k].T, *oracles[:, k].T]
        found[gap] = {
            "told_apart": bootstrap("share", _share, *columns[:2]),
            "by_the_oracle": bootstrap("share", _share, *columns[2:]),
            "over_the_oracle": bootstrap("ratio", _share_over_share, *columns),
        }
    return found


def told_apart(worth: np.ndarray, sds: np.ndarray, named: int, worse: set[int]) -> list[list[int]]:
    """For each gap, how many settings of it are called different from the named one, and of how many."""
    gaps = (worth - worth[named]) / np.sqrt(0.5 * (sds**2 + sds[named] ** 2))
    found = []
    for low, high in GAPS.values():
        there = np.flatnonzero((gaps >= low) & (gaps <= high))
        found.append([len(worse & set(there.tolist())), len(there)])
    return found


def _share(found: np.ndarray, of: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(found.sum(axis=axis) / of.sum(axis=axis))


def _share_over_share(found: np.ndarray, of: np.ndarray, oracles: np.ndarray, its: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample in which the oracle tells nothing apart
        return np.nan_to_num(_share(found, of, axis) / _share(oracles, its, axis), posinf=1e9)


def planted(luck: RecordedLuck, sweeps: int) -> dict[str, Any]:
    """How often a setting that is better than every other by the gap is named, in sweeps like the demo's."""
    named, claimed = np.zeros(sweeps, bool), 0
    for number in range(sweeps):
        world = World(luck, DEMO_SETTINGS, ITEMS[-1], ROTATED[0], number)
        best, sds = number % DEMO_SETTINGS, np.array([luck.sd(x) for x in world.decades])
        world.worth = PLANTED_SDS * np.sqrt(0.5 * (sds**2 + sds[best] ** 2))
        world.worth[best] = 0.0
        board = world.rank(world.search())
        named[number] = board.named == f"t{best + 1:04d}"
        claimed += bool(board.worse)
    fives = named[: sweeps // 5 * 5].reshape(-1, 5).sum(axis=1)
    return {
        "named": proportion(int(named.sum()), sweeps),
        "at_least_four_of_five": proportion(int((fives >= 4).sum()), len(fives)),
        "sweeps_that_claim": proportion(claimed, sweeps),
    }


def combined(luck: RecordedLuck, sweeps: int) -> dict[str, Any]:
    """The default combination, and what it is compared with."""
    runs = [combination.compare(luck, number, contenders) for number in range(sweeps)]
    names = [str(number) for number in range(sweeps)]
    regrets = {way: np.array([run[way].regret for run in runs]) for way in combination.WAYS}
    return {
        "executed": clustered(np.array([run["paused"].executed for run in runs]), names),
        "regret_milli_nats": {way: clustered(1000 * values, names) for way, values in regrets.items()},
        "regret_over": {
            way: ratio_of_means(regrets["paused"], values, names) for way, values in regrets.items() if way != "paused"
        },
        "false_claims": {
            way: proportion(sum(run[way].false_claim for run in runs), sweeps) for way in combination.WAYS
        },
        "told_apart": {way: proportion(sum(run[way].claims > 0 for run in runs), sweeps) for way in combination.WAYS},
    }


EQUAL = ("null", "beside_confirmed")
PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "null": null,
    "beside_confirmed": beside_confirmed,
    "power": power,
    "planted": planted,
    "combination": combined,
}


def met(found: dict[str, Any]) -> dict[str, bool]:
    result = {
        part: all(
            cell["value"] <= MOST_FALSE and cell["interval"][1] <= MOST_FALSE_UPPER for cell in found[part].values()
        )
        for part in ("null", "beside_confirmed")
        if part in found
    }
    if "power" in found:
        result["power"] = all(found["power"][gap]["over_the_oracle"]["ratio"] >= LEAST_POWER for gap in GAPS)
    if "planted" in found:
        result["planted"] = found["planted"]["named"]["value"] >= LEAST_NAMED
    if "combination" in found:
        lost = found["combination"]["false_claims"]["paused"]
        result["combination"] = bool(lost["value"] <= MOST_FALSE and lost["interval"][1] <= MOST_FALSE_UPPER)
    return result


if __name__ == "__main__":
    main()
