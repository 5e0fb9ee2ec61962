"""Whole default sweeps on recorded worth and luck: search, pauses, replicates, and the leaderboard's naming."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import optuna
from scipy.interpolate import PchipInterpolator

from benchmarks.confirm.posed_sweep import ROUNDS, Board, PosedTrial, rank
from benchmarks.confirm.recorded_luck import RecordedLuck
from sweeps.config import pausing
from sweeps.config.sweep_config import SweepConfig
from sweeps.plan.lr_bounds import Bounds, recommended_point
from sweeps.search.going_on import choose
from sweeps.search.samplers import make_sampler
from sweeps.search.search_space import distributions

TRIALS, SEEDS = 12, 4
WAYS = ("paused", "not paused", "one seed, lowest score")
Contenders = Callable[[Board, Mapping[str, float]], tuple[str, ...]]


@dataclass(frozen=True)
class Outcome:
    """What a sweep came to."""

    executed: float  # steps of the search over those of all its epochs in full
    regret: float  # true objective of the named setting above the lowest over the LRs, nats a token
    claims: int  # settings that the leaderboard calls worse
    false_claim: bool  # whether one of them is not


@dataclass(frozen=True)
class Whole:
    """A search trial as it would be trained to the end."""

    end: PosedTrial
    score: float  # held-out objective where it may pause, nats a token
    final: float


def compare(luck: RecordedLuck, number: int, choose_contenders: Contenders) -> dict[str, Outcome]:
    """Runs one sweep of each way, with the same seeds' luck.

    Args:
        luck: The recording.
        number: The sweep's; seeds the draws.
        choose_contenders: Names the settings to replicate, by the search's leaderboard.
    """
    rotated = _Replay(luck, number, SEEDS, pauses=True, confirms=choose_contenders)
    unpaused = _Replay(luck, number, SEEDS, pauses=False, confirms=choose_contenders)
    single = _Replay(luck, number, 1, pauses=False, confirms=None)
    return dict(zip(WAYS, (rotated.run(), unpaused.run(), single.run()), strict=True))


class _Replay:
    """One sweep."""

    def __init__(
        self, luck: RecordedLuck, number: int, seeds: int, *, pauses: bool, confirms: Contenders | None
    ) -> None:
        draw = np.random.default_rng([7, number])
        self.luck, self.seeds, self.pauses, self.confirms = luck, seeds, pauses, confirms
        self.drawn = [luck.new_seed(draw) for _ in range(SEEDS + ROUNDS)]
        finals = [luck.objective(losses) for losses in luck.worth[:, -1]]
        # Smooth between the recorded LRs, without a lower minimum than theirs.
        self.curve = PchipInterpolator(luck.decades, finals)
        space = {
            "peak_lr": {"low": float(10 ** luck.decades[0]), "high": float(10 ** luck.decades[-1]), "log": True},
            "warmup_fraction": {"low": 0.03, "high": 0.10},
            "decay_floor": {"low": 4e-5, "high": 5e-5},
            "beyond_recommended": "the recorded LRs",
        }
        self.config = SweepConfig.model_validate({
            "name": "replay", "objective": "replay", "seed": number, "model": {"name": "replay"},
            "data": {"train": "replay"}, "heldout": {"areas": {"replay": "replay"}}, "space": space,
            "search": {"trials": TRIALS},
        })  # fmt: skip
        self.at_pause = int(np.argmin(np.abs(luck.points - pausing.PAUSE_AT)))

    def run(self) -> Outcome:
        trials, executed = self._search()
        board = self._rank(trials)
        if self.confirms is None:
            complete = [trial for trial in trials if trial.losses is not None]
            named = min(complete, key=self._final).trial_id
        else:
            origin = {trial.trial_id: trial for trial in trials}
            peak_lrs = {name: 10**trial.decades for name, trial in origin.items()}
            trials += [
                self._trial(f"{name}-s{seed}", origin[name].decades, seed, name)
                for name in self.confirms(board, peak_lrs)
                for seed in range(SEEDS, SEEDS + ROUNDS)
            ]
            board = self._rank(trials)
            named = board.named
        truth = {trial.trial_id: float(self.curve(trial.decades)) for trial in trials}
        worse = board.worse
        false = any(truth[name] <= truth[board.named] for name in worse)
        lowest = float(self.curve(np.linspace(self.luck.decades[0], self.luck.decades[-1], 2001)).min())
        return Outcome(executed, truth[named] - lowest, len(worse), false)

    def _search(self) -> tuple[list[PosedTrial], float]:
        """All trials, those that paused for good without scores, and the share of steps that was trained."""
        study, space = optuna.create_study(sampler=make_sampler(self.config, 0)), distributions(self.config)
        ends = self.config.space.ends()
        bounds = Bounds(ends["peak_lr"], ends["decay_floor"], ends["warmup_fraction"], "")
        first = recommended_point(bounds, self.config.model.method)
        study.enqueue_trial({name: first[name] for name in space})
        wholes: list[Whole] = []
        paused: dict[str, float] = {}
        fall = 0.0
        for number in range(1, TRIALS + 1):
            asked = study.ask(fixed_distributions=space)
            whole = self._whole(f"t{number:04d}", float(np.log10(asked.params["peak_lr"])), (number - 1) % self.seeds)
            wholes.append(whole)
            if number == 1:
                fall = whole.score - whole.final
            if self.pauses and pausing.pauses(number, TRIALS):
                paused[whole.end.trial_id] = whole.score
                study.tell(asked, pausing.predicted_final(whole.score, {"t0001": fall}))
            else:
                study.tell(asked, whole.final)
        settings = {whole.end.trial_id: {"peak_lr": 10**whole.end.decades} for whole in wholes}
        finished = [one["peak_lr"] for name, one in settings.items() if name not in paused]
        going_on = set(choose(paused, settings, finished, TRIALS)) if paused else set()
        left = paused.keys() - going_on
        trials = [replace(one.end, losses=None) if one.end.trial_id in left else one.end for one in wholes]
        return trials, 1 - len(left) * (1 - pausing.PAUSE_AT) / TRIALS

    def _whole(self, name: str, decades: float, seed: int) -> Whole:
        end = self._trial(name, decades, seed)
        early = self.luck.worth_of(decades, self.at_pause) + self.luck.luck_of(decades, self.drawn[seed], self.at_pause)
        return Whole(end, self.luck.objective(early), self._final(end))

    def _trial(self, name: str, decades: float, seed: int, replicate_of: str | None = None) -> PosedTrial:
        worth = self.luck.worth_of(decades)
        # The items' losses between recorded LRs are moved onto the smooth curve.
        moved = worth + float(self.curve(decades)) - self.luck.objective(worth)
        return PosedTrial(name, decades, seed, moved + self.luck.luck_of(decades, self.drawn[seed]), replicate_of)

    def _final(self, trial: PosedTrial) -> float:
        assert trial.losses is not None
        return self.luck.objective(trial.losses)

    def _rank(self, trials: list[PosedTrial]) -> Board:
        return rank(trials, self.luck.area_of, self.luck.base)
