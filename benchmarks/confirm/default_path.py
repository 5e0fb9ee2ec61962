"""What does the leaderboard of a default sweep claim, and is it true? Sweeps with known truth and recorded luck.

Settings of known worth are posed as a finished sweep (`benchmarks.confirm.posed_sweep`) and ranked by the product's own
`leaderboard()`. Luck is that of recorded seeds (`benchmarks.confirm.recorded_luck`): the tiny model, 8 LRs x 8 seeds x
64 items, and the 135M model on the demo's data, 4 LRs x 4 seeds x 240 items. Intervals are at 95 %.

- null: 2, 4 and 16 equal settings over the recorded LRs, under four seeds in rotation and under one; how many sweeps
  have a setting that is called worse.
- beside_confirmed: the same with 2 x 2 replicates of two contenders, which the product chooses; any setting called
  worse, the never-replicated ones included.
- power: 16 settings on a parabola of 20 sd a squared decade; settings called different from the best at true gaps of
  1.5 to 2.5 and 3 to 5 sd, against an oracle that knows each LR's sd (normal quantiles, the same pairs corrected for).
- combination: 12 trials by the product's sampler on the recorded worth, seeds in rotation, pausing, 2 x 2 replicates:
  steps, replicates left out; regret of the named setting; false claims. Beside it the same trials without pausing, and
  12 trials under one seed named by the lowest score. The evidence rule, which would save further steps, is left out.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from scipy.stats import norm

from analysis.output.leaderboard import Leaderboard
from benchmarks.common import machine, parser, print_result, say
from benchmarks.confirm import combination
from benchmarks.confirm.posed_sweep import PosedTrial, called_worse, rank
from benchmarks.confirm.recorded_luck import RecordedLuck
from benchmarks.intervals import bootstrap, clustered, proportion, ratio_of_means
from benchmarks.recording.curves import DATA
from sweeps.confirm.contenders import choose_contenders

RECORDINGS = (DATA / "curves_tiny.npz", DATA / "seeds_135m.npz")
SETTINGS, ITEMS, ROTATED = (2, 4, 16), (64, 240), (4, 1)
ALPHA = 0.05
CURVATURE = 20.0  # sd a squared decade
GAPS = {"2 sd": (1.5, 2.5), "4 sd": (3.0, 5.0)}
CONTENDERS, BUDGET = 2, 4  # 2 x 2 replicates
MOST_FALSE, MOST_FALSE_UPPER, LEAST_POWER = 0.05, 0.08, 1 / 3  # targets


def main() -> None:
    options = parse()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    result: dict[str, Any] = {"machine": machine(), "sweeps": options.sweeps}
    for path in options.recordings:
        luck = RecordedLuck.read(path)
        found = result[path.stem] = {"seed_sd": {f"{10**x:.3g}": round(luck.sd(x), 4) for x in luck.decades.tolist()}}
        for part in options.parts:
            found[part] = PARTS[part](luck, options.sweeps)
            say(f"{path.stem}: {part} {json.dumps(found[part])}")
        found["met"] = met(found)
    print_result(result)


def parse() -> argparse.Namespace:
    command = parser("confirm.default_path", "What a default sweep claims, on settings of known worth.", "--sweeps 50")
    command.add_argument("--sweeps", type=int, default=200, help="of each kind")
    command.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    command.add_argument("--recordings", nargs="+", type=Path, default=RECORDINGS)
    return command.parse_args()


class World:
    """One posed sweep: LRs, seeds and items drawn at random, and what each setting is worth."""

    def __init__(self, luck: RecordedLuck, settings: int, items: int, seeds: int, number: int) -> None:
        draw = np.random.default_rng([settings, items, seeds, number])
        low, high = luck.decades[0], luck.decades[-1]
        # One setting in each of as many equal parts of the LRs' range, in random order.
        share = (draw.permutation(settings) + draw.uniform(size=settings)) / settings
        self.luck, self.decades = luck, low + (high - low) * share
        self.seeds = [luck.new_seed(draw) for _ in range(seeds + BUDGET // CONTENDERS)]
        self.rotation = seeds
        self.items = luck.items(draw, items)
        self.common = luck.worth[:, -1].mean(axis=0)
        self.worth = np.zeros(settings)  # nats a token above the items' common losses

    def trial(self, setting: int, seed: int, replicate: bool = False) -> PosedTrial:
        """A trial of a setting under one of the seeds; replicates have those after the rotation."""
        decades, name = float(self.decades[setting]), f"t{setting + 1:04d}"
        losses = self.common + self.worth[setting] + self.luck.luck_of(decades, self.seeds[seed])
        label = f"{name}-s{seed}" if replicate else name
        return PosedTrial(label, decades, seed, losses[self.items], name if replicate else None)

    def search(self) -> list[PosedTrial]:
        return [self.trial(setting, setting % self.rotation) for setting in range(len(self.decades))]

    def rank(self, trials: Sequence[PosedTrial]) -> Leaderboard:
        return rank(trials, self.luck.area_of[self.items], self.luck.base[self.items])


def null(luck: RecordedLuck, sweeps: int) -> dict[str, Any]:
    """Share of sweeps of equal settings with any called worse."""
    found = {}
    for settings in SETTINGS:
        for items in ITEMS:
            for seeds in ROTATED:
                false = 0
                for number in range(sweeps):
                    world = World(luck, settings, items, seeds, number)
                    false += bool(called_worse(world.rank(world.search())))
                found[f"{settings} settings, {items} items, {seeds} seeds"] = proportion(false, sweeps)
    return found


def beside_confirmed(luck: RecordedLuck, sweeps: int) -> dict[str, Any]:
    """The same where the product's contenders are replicated."""
    found = {}
    for settings in SETTINGS[1:]:
        for items in ITEMS:
            false = 0
            for number in range(sweeps):
                world = World(luck, settings, items, ROTATED[0], number)
                trials = world.search()
                rounds = range(world.rotation, world.rotation + BUDGET // CONTENDERS)
                trials += [
                    world.trial(int(name[1:]) - 1, seed, replicate=True)
                    for name in contenders(world.rank(trials))
                    for seed in rounds
                ]
                false += bool(called_worse(world.rank(trials)))
            found[f"{settings} settings, {items} items"] = proportion(false, sweeps)
    return found


def contenders(board: Leaderboard) -> tuple[str, ...]:
    """The settings that the product would replicate."""
    ranked = [row["trial_id"] for row in board["rows"] if row["rank"]]
    tied = {pair["trial_id"] for pair in board["tied"]}
    peaks = {row["trial_id"]: row["params"]["peak_lr"] for row in board["rows"]}
    return choose_contenders(ranked, tied, CONTENDERS, BUDGET, None, peaks)


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
        named, worse = int(str(board["winner_setting"])[1:]) - 1, {int(name[1:]) - 1 for name in called_worse(board)}
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


PARTS = {"null": null, "beside_confirmed": beside_confirmed, "power": power, "combination": combined}


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
    if "combination" in found:
        lost = found["combination"]["false_claims"]["paused"]
        result["combination"] = bool(lost["value"] <= MOST_FALSE and lost["interval"][1] <= MOST_FALSE_UPPER)
    return result


if __name__ == "__main__":
    main()
