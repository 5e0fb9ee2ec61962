"""Sections of a sweep's config about the search and its resources; the others are in `trainables.config`.

The sections' docstrings are user documentation: `sweeps.config.reference` prints them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sweeps.config.errors import rule, suggestion
from trainables.config.hyperparameters import (
    CHOSEN,
    SCHEDULE_PARAMS,
    SEARCHABLE_LORA,
    SEARCHABLE_SCHEDULE,
    SEARCHABLE_TRAINING,
    as_value,
)
from trainables.config.sections import Section

SUBSET_FRACTIONS = (0.25, 0.5)  # of the training samples; with the whole set three points, each twice the last

SEARCHABLE = (*SCHEDULE_PARAMS, *SEARCHABLE_LORA, *SEARCHABLE_SCHEDULE, *SEARCHABLE_TRAINING)

# With so few trials an offset grid had less regret than any sampler, on measured surfaces of LRs; with 8 it had more.
GRID_TRIALS = 5


class Range(Section):
    """A searched interval, both ends included.

    Attributes:
        low: Lower end.
        high: Upper end, above `low`.
        log: Search on a logarithmic scale; both ends above 0 then.
    """

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def low_is_below_high(self) -> Range:
        if not self.low < self.high:
            raise rule(
                "low must be below high",
                f"low={self.low:g} high={self.high:g}",
                "swap them" if self.low > self.high else "give a number instead of a range",
            )
        if self.log and self.low <= 0:
            raise rule("low must be above 0 on a log scale", f"low={self.low:g}", "raise low or set log: false")
        return self


class Choices(Section):
    """A searched choice.

    Attributes:
        choices: Two values or more, all different: names, or lists of names.
    """

    choices: list[str | list[str]] = Field(min_length=2)

    @model_validator(mode="after")
    def choices_differ(self) -> Choices:
        if len(set(self.values)) < len(self.choices):
            raise rule("must hold different choices", ", ".join(map(str, self.choices)), "leave out what is repeated")
        return self

    @property
    def values(self) -> tuple[str, ...]:
        """The choices as a trial's params hold them."""
        return tuple(as_value(choice) for choice in self.choices)


def _kind(value: Any) -> str:
    if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value):
        return "Choices"
    if isinstance(value, str):
        return "str"
    return "Range" if isinstance(value, (Range, dict)) else "float"


# By the value's own form, so that a mistake gets the error of what was meant, not one for each alternative.
Searched = Annotated[
    Annotated[Range, Tag("Range")]
    | Annotated[Choices, Tag("Choices")]
    | Annotated[float, Tag("float")]
    | Annotated[str, Tag("str")],
    Discriminator(_kind),
]


class SpaceConfig(Section):
    """What is searched: a range, choices or a fixed value for each hyper-parameter.

    Beside the LR schedule's three, any other number under `training` or `model.lora` may be named (`max_grad_norm`,
    `batch_size`, `lora_r`, …), `decay_fraction` where the shape may be "wsd", and two choices: `schedule_shape` and
    `target_modules`, as `schedule_shape: {choices: [linear, cosine]}`.

    Attributes:
        peak_lr: Highest LR of the schedule.
        warmup_fraction: Steps of linear warm-up, as a fraction of all steps.
        decay_floor: The LR at the last step (an LR, not a ratio).
        beyond_recommended: Why the search leaves the recommended bounds; without a reason it may not. It goes into the
            manifest.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, Searched] = Field(init=False)

    peak_lr: Range | float
    warmup_fraction: Range | float
    decay_floor: Range | float
    beyond_recommended: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def values_are_possible(self) -> SpaceConfig:
        for name, (low, high) in self.ends().items():
            if name in ("peak_lr", "decay_floor") and low <= 0:
                raise rule(f"{name} must be above 0", f"{low:g}", "give a positive LR")
            if name == "warmup_fraction" and not 0 <= low <= high < 1:
                raise rule("warmup_fraction must lie in 0 to below 1", f"{low:g} to {high:g}", "3-10 % is usual")
        (_, floor_high), (_, peak_high) = self.ends()["decay_floor"], self.ends()["peak_lr"]
        if floor_high > peak_high:
            raise rule(
                "decay_floor must not exceed peak_lr",
                f"decay_floor up to {floor_high:g}, peak_lr up to {peak_high:g}",
                "lower decay_floor",
            )
        return self

    @model_validator(mode="after")
    def choices_are_texts_and_ranges_numbers(self) -> SpaceConfig:
        for name, value in self.items().items():
            if isinstance(value, (Choices, str)) != (name in CHOSEN):
                form = "a name or {choices: [...]}" if name in CHOSEN else "a number or {low, high, log}"
                raise rule(f"{name} must be {form}", value, "give one of the two")
        return self

    @model_validator(mode="before")
    @classmethod
    def names_are_searchable(cls, values: Any) -> Any:
        known = (*SEARCHABLE, "beyond_recommended")
        if isinstance(values, dict) and "template" in values:
            # Held-out items get other tokens with each template: their mean over tokens is another measure.
            why = "template can't be searched: losses a token of different templates can't be compared"
            raise rule(why, values["template"], "give each template a sweep, and compare the scores of their answers")
        unknown = [name for name in values if name not in known] if isinstance(values, dict) else []
        if unknown:
            raise rule("is not a searchable hyper-parameter", unknown[0], suggestion(unknown[0], known))
        return values

    def items(self) -> dict[str, Range | Choices | float | str]:
        named = {name: getattr(self, name) for name in SCHEDULE_PARAMS}
        return {**named, **(self.__pydantic_extra__ or {})}

    def choices(self) -> dict[str, tuple[str, ...]]:
        """The values of every categorical hyper-parameter; a fixed one has one."""
        found = {name: value for name, value in self.items().items() if isinstance(value, (Choices, str))}
        return {name: (value,) if isinstance(value, str) else value.values for name, value in found.items()}

    def ends(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of every hyper-parameter that is a number; both are the value of a fixed one."""
        numbers = {name: value for name, value in self.items().items() if not isinstance(value, (Choices, str))}
        return {k: (v.low, v.high) if isinstance(v, Range) else (v, v) for k, v in numbers.items()}


class EnoughConfig(Section):
    """A score of the base model at which fine-tuning is not needed.

    Attributes:
        metric: "nll" (nats a token, at most `value`), or "exact_match", "token_f1" or another scorer (at least).
        value: The score.
        area: The held-out area that must reach it; null for the mean over all areas, by weight.
    """

    metric: str = Field(min_length=1)
    value: float
    area: str | None = None


class ObjectiveConfig(Section):
    """What the fine-tune is for.

    Attributes:
        statement: One or two sentences; they head every report. A bare string in a config means this field.
        enough: A score at which fine-tuning is not needed; null for none.
        when_enough: Where the base model reaches it: "stop" (no trial is trained) or "continue".
    """

    statement: str = Field(min_length=1)
    enough: EnoughConfig | None = None
    when_enough: Literal["stop", "continue"] = "stop"

    @model_validator(mode="before")
    @classmethod
    def statement_alone(cls, value: Any) -> Any:
        return {"statement": value} if isinstance(value, str) else value


class SearchConfig(Section):
    """How the space is searched.

    Attributes:
        trials: Trials in all.
        sampler: "gp" (Gaussian process), "tpe", "cmaes", "random", "grid" (evenly spaced, most levels for the peak LR),
            "qmc" (quasi-random); or "auto": "grid" for five trials or fewer without a warm start, else "gp".
        startup_trials: Quasi-random or random trials before "gp" and "tpe" begin to model.
        warm_start: Folders of earlier sweeps whose finished trials the sampler learns from, where model, method and
            data are the same.
        seed_points: "recommended" tries the recommended point first; or a list of points; [] for none.
        trial_scheduler: Who stops trials: "pause" (each trial but the first pauses after a quarter of its epoch, is
            scored there, and the best go on; of six trials and more), "evidence" (paired losses against finished trials
            of the same seed, aware of the LR schedule's phase), "none", or Ray Tune's "asha" or "median" on the
            held-out objective. "pause" also stops as "evidence" does.
        seeds: Seeds in rotation: trial n is trained under seed `seed + (n - 1) % seeds`. With one seed the search finds
            what suits that seed, and can't tell how much of a score is its luck.
    """

    trials: int = Field(16, ge=1)
    sampler: Literal["auto", "gp", "tpe", "cmaes", "random", "grid", "qmc"] = "auto"
    startup_trials: int = Field(4, ge=1)
    warm_start: list[str] = Field(default_factory=list)
    seed_points: Literal["recommended"] | list[dict[str, float | str]] = "recommended"
    trial_scheduler: Literal["pause", "evidence", "none", "asha", "median"] = "pause"
    seeds: int = Field(4, ge=1, le=16)

    @property
    def chosen_sampler(self) -> str:
        """The sampler that proposes; never "auto"."""
        if self.sampler != "auto":
            return self.sampler
        return "grid" if self.trials <= GRID_TRIALS and not self.warm_start else "gp"


class ConfirmConfig(Section):
    """Replicates of the best settings, with other seeds, after the search: only seeds tell two settings apart.

    Attributes:
        budget: Replicates at most; 0 for none.
        rounds: Rounds at most; each trains every contender that is left with one and the same new seed.
        contenders: Settings at most that are replicated; fewer, but two, where the budget gives them less than three
            rounds.
        epsilon: Nats a token; settings that are known to be nearer than this are a tie.
        alpha: Probability of calling one of two equal settings worse, over all settings and rounds; the
            leaderboard's too.
        seed_sd: Standard deviation of a setting's objective between seeds, nats a token, where it is known (a parent
            sweep's); null where only replicates can tell it: then the best settings are
            replicated whether or not the search tells them apart.
    """

    budget: int = Field(0, ge=0)
    rounds: int = Field(4, ge=1, le=4)
    contenders: int = Field(4, ge=2, le=4)
    epsilon: float = Field(0.01, gt=0)
    alpha: float = Field(0.05, gt=0, lt=0.5)
    seed_sd: float | None = Field(None, gt=0)


class MoreDataConfig(Section):
    """Would more training samples help? Complete schedules on parts of the training set tell; one curve does not.

    Attributes:
        subsets: Train the winner's setting again, after the search, on a quarter of the samples and on a half that
            holds the quarter. They cost three quarters of a trial, and take no part in the ranking.
    """

    subsets: bool = False

    @property
    def trials(self) -> float:
        """Cost of the subset trials, in whole trials."""
        return sum(SUBSET_FRACTIONS) if self.subsets else 0.0


class BudgetConfig(Section):
    """What the sweep may cost.

    Attributes:
        device_hours: Hours that lanes may hold their GPUs (on CPUs: their workers), all lanes together; when they are
            spent the sweep ends and ranks what it has. null for no cap.
    """

    device_hours: float | None = Field(None, gt=0)


FROM_ENVIRONMENT = "env:"  # prefix of a webhook that names an environment variable


class NotifyConfig(Section):
    """Who is told when the sweep has ended.

    Attributes:
        webhook: An address to which the verdict, the gain, the cost and the folder are posted as JSON; `env:NAME` where
            the environment variable NAME holds it (an address that is itself a secret must not stand here). null for
            none.
        insecure: Post to http, too, beyond this machine; whoever is on the way can read it.
    """

    webhook: str | None = Field(None, min_length=1)
    insecure: bool = False


class ResourcesConfig(Section):
    """What the sweep may use.

    Attributes:
        lanes: Trials trained at once, or "auto": what the cluster has (on CPUs one lane a node), and what nodes bring
            that join it later. On a cluster that was joined (--address) it may be more than the nodes that are up hold.
        workers_per_lane: GPUs (or CPU workers) that one trial is trained on, data-parallel.
        trials_per_lane: Trials trained side by side on one copy of the base model (LoRA), each with its own schedule
            and fate; or "auto": as many as the lane's device is measured to train faster than one after another.
        cpus_per_worker: CPUs of each worker, or "auto".
        max_failures: How often a trial is tried again after an error or a lost worker.
        hung_after_seconds: A worker in which no step, scoring batch or write gets done for so long hangs: it is ended,
            and its trial has failed once. "auto": 50 of the trial's own steps, at least 10 minutes.
        keep_checkpoints: Settings, the best first, of which the best checkpoint stays on the disk, beside those that
            are being confirmed and the best and last of each running trial; or "all": every checkpoint of every trial.
            The scores of all checkpoints are kept and ranked in any case.
    """

    lanes: Literal["auto"] | int = "auto"
    workers_per_lane: int = Field(1, ge=1)
    trials_per_lane: Literal["auto"] | int = 1
    cpus_per_worker: Literal["auto"] | int = "auto"
    max_failures: int = Field(2, ge=0)
    hung_after_seconds: Literal["auto"] | float = "auto"
    keep_checkpoints: Literal["all"] | int = 5

    @field_validator("hung_after_seconds")
    @classmethod
    def is_some_time(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and value <= 0:
            raise rule("must be above 0", value, "give seconds or auto")
        return value

    @field_validator("lanes", "trials_per_lane", "cpus_per_worker", "keep_checkpoints")
    @classmethod
    def is_positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise rule("must be 1 or more", value, "give a positive number or auto")
        return value

    @field_validator("trials_per_lane")
    @classmethod
    def a_trial_is_packed_or_shared_out(cls, value: int | str, info: ValidationInfo) -> int | str:
        if value != 1 and info.data.get("workers_per_lane", 1) > 1:
            raise rule("must be 1 where several workers share a trial", value, "set it, or workers_per_lane, to 1")
        return value
