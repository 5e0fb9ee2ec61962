"""The search space in a sweep's config: ranges, choices and fixed values.

The docstrings are user documentation: `sweeps.config.reference` prints them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from sweeps.config.errors import rule, suggestion
from sweeps.config.habits import KEYS, RULES, foreign_choices, foreign_range, range_over
from trainables.config.hyperparameters import (
    CHOSEN,
    SCHEDULE_PARAMS,
    SEARCHABLE_LORA,
    SEARCHABLE_SCHEDULE,
    SEARCHABLE_TRAINING,
    as_value,
)
from trainables.config.sections import Section, TrainingConfig

SEARCHABLE = (*SCHEDULE_PARAMS, *SEARCHABLE_LORA, *SEARCHABLE_SCHEDULE, *SEARCHABLE_TRAINING)


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

    @model_validator(mode="before")
    @classmethod
    def is_no_other_tools_range(cls, value: Any) -> Any:
        if isinstance(value, dict) and (found := foreign_range(value)):
            raise rule(*found)
        return value

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


def _instead(name: str) -> str:
    """The remedy for a name that can't be searched."""
    if name in TrainingConfig.model_fields:
        return f"set it for all trials: training.{name}"
    if name in SEARCHABLE_LORA.values():
        return f"did you mean lora_{name}?"
    near = suggestion(name, (*SEARCHABLE, "beyond_recommended"))
    return KEYS[name] if name in RULES or (name in KEYS and near.startswith("known")) else near


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
                raise rule("warmup_fraction must lie in 0 to below 1", f"{low:g} to {high:g}", "3 % is 0.03")
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
    def choices_stand_where_names_do(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            if name in CHOSEN and isinstance(value, dict) and "choices" not in value:
                if found := foreign_choices(value):
                    raise rule(f"{name} must be a name or {{choices: [a, b]}}", *found)
            elif name in SEARCHABLE and name not in CHOSEN and isinstance(value, dict) and "choices" in value:
                got, remedy = f"choices={value['choices']}", range_over(value["choices"])
                raise rule(f"{name} must be a number or {{low, high, log}}", got, remedy)
        return values

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
            why = RULES.get(unknown[0], "is not a searchable hyper-parameter")
            raise rule(why, unknown[0], _instead(unknown[0]))
        return values

    def items(self) -> dict[str, Range | Choices | float | str]:
        named = {name: getattr(self, name) for name in SCHEDULE_PARAMS}
        return {**named, **(self.__pydantic_extra__ or {})}

    def fixed(self) -> dict[str, float | str]:
        """The hyper-parameters with a fixed value."""
        return {name: value for name, value in self.items().items() if not isinstance(value, (Range, Choices))}

    def choices(self) -> dict[str, tuple[str, ...]]:
        """The values of every categorical hyper-parameter; a fixed one has one."""
        found = {name: value for name, value in self.items().items() if isinstance(value, (Choices, str))}
        return {name: (value,) if isinstance(value, str) else value.values for name, value in found.items()}

    def ends(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of every hyper-parameter that is a number; both are the value of a fixed one."""
        numbers = {name: value for name, value in self.items().items() if not isinstance(value, (Choices, str))}
        return {k: (v.low, v.high) if isinstance(v, Range) else (v, v) for k, v in numbers.items()}
