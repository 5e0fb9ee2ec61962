"""Searchable hyper-parameters, and their substitution into a config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainables.config.sections import LoraConfig, Params, Section, TrainingConfig

# By search-space name: in a table of trials, "r" or "alpha" would say too little.
SEARCHABLE_LORA = {
    "lora_r": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "target_modules",
}
SEARCHABLE_SCHEDULE = {"schedule_shape": "shape", "decay_fraction": "decay_fraction"}
SEARCHABLE_TRAINING = (
    "batch_size",
    "gradient_accumulation",
    "max_grad_norm",
    "weight_decay",
    "beta1",
    "beta2",
    "eps",
)
SCHEDULE_PARAMS = ("peak_lr", "warmup_fraction", "decay_floor")

# Searched among given choices, which are texts; all others are numbers.
CHOSEN = ("schedule_shape", "target_modules")

# Hyper-parameters that do something under one choice of another only.
ONLY_WITH = {"decay_fraction": ("schedule_shape", "wsd")}


def with_params(training: TrainingConfig, lora: LoraConfig, params: Params) -> tuple[TrainingConfig, LoraConfig]:
    """Replaces values of the config by a trial's searched values and validates them.

    Args:
        training: The sweep's training section.
        lora: The sweep's adapter settings.
        params: Values by search-space name; the LR schedule's numbers (`SCHEDULE_PARAMS`) are ignored.

    Returns:
        The two sections of this trial.

    Raises:
        KeyError: A name is not searchable.
        pydantic.ValidationError: A value is out of its field's range.
    """
    # Not model_copy(update=...), which would skip the validation.
    train_values, lora_values = training.model_dump(), lora.model_dump()
    for name, value in params.items():
        if name in SCHEDULE_PARAMS:
            continue
        if name in SEARCHABLE_LORA:
            lora_values[SEARCHABLE_LORA[name]] = _as_field(lora, SEARCHABLE_LORA[name], value)
        elif name in SEARCHABLE_SCHEDULE:
            key = SEARCHABLE_SCHEDULE[name]
            train_values["schedule"][key] = _as_field(training.schedule, key, value)
        elif name in SEARCHABLE_TRAINING:
            train_values[name] = _as_field(training, name, value)
        else:
            raise KeyError(f"{name} is not a searchable hyper-parameter")
    return TrainingConfig.model_validate(train_values), LoraConfig.model_validate(lora_values)


def setting_of(training: TrainingConfig, lora: LoraConfig | None) -> Params:
    """The config's own value of every searchable hyper-parameter but `SCHEDULE_PARAMS`; no adapter's where None."""
    values: Params = {name: getattr(training, name) for name in SEARCHABLE_TRAINING}
    values |= {name: getattr(training.schedule, key) for name, key in SEARCHABLE_SCHEDULE.items()}
    if lora is not None:
        values |= {name: as_value(getattr(lora, key)) for name, key in SEARCHABLE_LORA.items()}
    return values


def as_value(choice: Any) -> Any:
    """A choice as a trial's params hold it: a list of names becomes a text with commas (Optuna takes no lists)."""
    return ",".join(choice) if isinstance(choice, list) else choice


def lr_text(value: float) -> str:
    """A learning rate to two digits: `7.6e-4`."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}"


def idle(params: Params) -> list[str]:
    """Names of the params that do nothing beside the others, by `ONLY_WITH`."""
    return [name for name, (other, value) in ONLY_WITH.items() if name in params and params.get(other, value) != value]


def is_integer_param(name: str) -> bool:
    if name in SEARCHABLE_LORA:
        return LoraConfig.model_fields[SEARCHABLE_LORA[name]].annotation is int
    return name in SEARCHABLE_TRAINING and TrainingConfig.model_fields[name].annotation is int


def _as_field(section: Section, field: str, value: float | str) -> float | str | Sequence[str]:
    if isinstance(value, str):
        return value.split(",") if field == "target_modules" and value != "all-linear" else value
    # The search's values are floats; strict models refuse 8.0 for an int.
    return int(value) if type(section).model_fields[field].annotation is int else float(value)
