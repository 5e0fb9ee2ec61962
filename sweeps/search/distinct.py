"""Settings by what they train: two that give the same learning rates, batches and adapter are one, to the bit.

A space can hold few of them, and not only where all is fixed: in a short epoch many warm-up fractions are the same
number of steps, a batch may be larger than the training set, and an epoch of one step runs at the floor alone.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sweeps.config.space import Choices, Range
from sweeps.config.sweep_config import SweepConfig
from trainables.config.hyperparameters import is_integer_param, with_params
from trainables.config.sections import Params
from trainables.data.epoch import plan_epoch
from trainables.errors import UserError
from trainables.optim.lr_schedule import LRSchedule, as_used, make_schedule

MOST_LOOKED_AT = 2000  # combinations; a space that has shown no end of settings by then has enough of them. Ours

MOST_STEPS = 1000  # of which the rates are compared one by one; ours, for speed

OF_STEPS = ("warmup_fraction", "decay_fraction")  # rounded to whole steps


class Settings:
    """The settings of a sweep's space.

    Args:
        config: The sweep.
        samples: Samples of its training set.
    """

    def __init__(self, config: SweepConfig, samples: int) -> None:
        self.config, self.samples = config, samples

    def identity(self, params: Params) -> str:
        """A text that two settings share if and only if trials of one seed compute the same with both.

        Args:
            params: The hyper-parameters that are searched, as drawn or as used.

        Raises:
            UserError: The LR schedule does not fit the epoch.
        """
        used, _ = as_used({**self.config.space.fixed(), **params})
        training, lora = with_params(self.config.training, self.config.model.lora, used)
        epoch = plan_epoch(self.samples, training, self.config.resources.workers_per_lane)
        rates = _rates(make_schedule(used, training.schedule, epoch.steps))
        # A step has no more samples than there are.
        sizes = [min(size, self.samples) for size in (epoch.samples_per_step, training.batch_size)]
        others = sorted((name, value) for name, value in self._others(training, lora).items())
        return hashlib.sha256(repr((sizes, others, rates)).encode()).hexdigest()

    def all(self, enough: int) -> list[Params] | None:
        """One setting for each thing that the space can train; None where they are `enough` or more, or without end."""
        continuous = [name for name, value in self.config.space.items().items() if self._is_continuous(name, value)]
        found: dict[str, Params] = {}
        for number, setting in enumerate(self._combinations(), start=1):
            try:
                own = self.identity(setting)
                others = [self.identity({**setting, name: self._high(name)}) for name in continuous]
            except UserError:  # a trial of it would fail
                continue
            found.setdefault(own, setting)
            # A continuous scale whose ends differ has settings without end.
            if len(found) >= enough or number >= MOST_LOOKED_AT or any(other != own for other in others):
                return None
        return list(found.values())

    def _others(self, training: Any, lora: Any) -> dict[str, Any]:
        fields = training.model_dump(exclude={"schedule", "batch_size", "gradient_accumulation", "checkpoints_at"})
        return fields | ({"lora": lora.model_dump()} if self.config.model.method == "lora" else {})

    def _combinations(self) -> Iterator[Params]:
        space = self.config.space.items()
        for values in itertools.product(*(self._values(name, value) for name, value in space.items())):
            yield dict(zip(space, values, strict=True))

    def _values(self, name: str, value: Any) -> Iterable[Any]:
        """Values that stand for all: of a continuous scale its low end, of a fraction of the epoch one a step."""
        if isinstance(value, Choices):
            return value.values
        if not isinstance(value, Range):
            return (value,)
        if is_integer_param(name):
            return range(int(value.low), int(value.high) + 1)
        if name not in OF_STEPS:
            return (value.low,)
        fractions = (
            min(max(part / steps, value.low), value.high)
            for steps in self._steps()
            for part in range(round(value.low * steps), round(value.high * steps) + 1)
        )
        return sorted(set(itertools.islice(fractions, MOST_LOOKED_AT)))

    def _steps(self) -> set[int]:
        sizes = ("batch_size", "gradient_accumulation")
        space = {name: value for name, value in self.config.space.items().items() if name in sizes}
        combined = itertools.product(*(self._values(name, value) for name, value in space.items()))
        training, lora, workers = self.config.training, self.config.model.lora, self.config.resources.workers_per_lane
        drawn = (dict(zip(space, values, strict=True)) for values in itertools.islice(combined, MOST_LOOKED_AT))
        return {plan_epoch(self.samples, with_params(training, lora, one)[0], workers).steps for one in drawn}

    def _is_continuous(self, name: str, value: Any) -> bool:
        return isinstance(value, Range) and not is_integer_param(name) and name not in OF_STEPS

    def _high(self, name: str) -> float:
        return self.config.space.ends()[name][1]


def _rates(schedule: LRSchedule) -> tuple[Any, ...]:
    if schedule.steps <= MOST_STEPS:
        return tuple(schedule.lr(step) for step in range(schedule.steps))
    # In a long epoch different numbers give different rates; one step of warm-up is none.
    shape = {"step": schedule.step_at, "wsd": round(schedule.decay_fraction * schedule.steps)}.get(schedule.shape)
    return schedule.steps, schedule.peak_lr, schedule.floor_lr, max(1, schedule.warmup_steps), schedule.shape, shape


class Tried:
    """What the trials of a search compute: the same setting under the same seed would repeat a trial to the bit.

    Args:
        config: The sweep.
        settings: Tells what a setting trains; None where the training set is not known: then all counts as new.
        points: Tried first.

    Attributes:
        distinct: Number of settings of the space, if they are fewer than the trials; None otherwise.
    """

    def __init__(self, config: SweepConfig, settings: Settings | None, points: Sequence[Params]) -> None:
        self.config, self.settings = config, settings
        self._keys: set[tuple[str, int]] = set()
        few = settings.all(enough=config.search.trials) if settings else None
        self.distinct = len(few) if few else None
        # All of few settings are tried, the first points first: nothing is left for a sampler to choose.
        self._few = [{**few[0], **point} for point in points] + few if few else []

    def add(self, params: Params, seed: int) -> None:
        """Adds a trial."""
        self._keys.add(self._key(params, seed))

    def is_new(self, params: Params, number: int) -> bool:
        """Whether the search trial with this number would compute something new under its seed in rotation."""
        return self.settings is None or self._key(params, self.config.search_seed(number)) not in self._keys

    def seed_for(self, params: Params, number: int) -> int:
        """The seed in rotation, or the next one under which these params are new, if there is one."""
        return next(iter(self._free_seeds(params, number)), self.config.search_seed(number))

    def next_of_few(self, number: int) -> Params | None:
        """The first of few settings that is new under the seed in rotation, else under another; None without any."""
        untried = [setting for setting in self._few if self._free_seeds(setting, number)]
        return next((setting for setting in untried if self.is_new(setting, number)), next(iter(untried), None))

    @property
    def untried(self) -> int | None:
        """Number of trials that would compute something new; None where there are enough of them."""
        if self.distinct is None:
            return None
        seeds = [self.config.search_seed(number) for number in range(1, self.config.search.seeds + 1)]
        return len({self._key(setting, seed) for setting in self._few for seed in seeds} - self._keys)

    def worth_trying(self, points: Sequence[Params]) -> list[Params]:
        """The points without those that repeat others more often than there are seeds; none of few settings."""
        if self.settings is None or self.distinct is not None:
            return [] if self.distinct is not None else list(points)
        searched = self.config.space.items().keys() - self.config.space.fixed().keys()
        counted, kept = Counter[str](), list[Params]()
        for point in points:
            # A sampler completes a part of a setting.
            key = self._key(point, 0)[0] if searched <= point.keys() else str(len(kept))
            counted[key] += 1
            if counted[key] <= self.config.search.seeds:
                kept.append(point)
        return kept

    def _free_seeds(self, params: Params, number: int) -> list[int]:
        seeds = dict.fromkeys(self.config.search_seed(number + more) for more in range(self.config.search.seeds))
        return [seed for seed in seeds if self._key(params, seed) not in self._keys]

    def _key(self, params: Params, seed: int) -> tuple[str, int]:
        if self.settings is None:
            return "", seed
        try:
            return self.settings.identity(params), seed
        except UserError:  # the trial will fail, and say why
            return str(sorted(params.items())), seed


def distinct_words(settings: int, trials: int, seeds: int) -> str:
    """What a space of few settings means for a search, in a sentence."""
    few = f"the space has {settings} distinct setting{'s' if settings > 1 else ''} for {trials} trials"
    if settings * seeds >= trials:
        return f"{few}: they are trained again under other seeds, of {seeds}"
    under = f"each under {seeds} seeds, " if seeds > 1 else ""
    return f"{few}: {under}the search ends after {settings * seeds}, for the rest would repeat them to the bit"
