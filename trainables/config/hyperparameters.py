"""Searchable hyper-parameters, and their substitution into a config."""

from __future__ import annotations

from trainables.config.sections import LoraConfig, Params, Section, TrainingConfig

# By search-space name: in a table of trials, "r" or "alpha" would say too little.
SEARCHABLE_LORA = {"lora_r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout"}
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


def with_params(training: TrainingConfig, lora: LoraConfig, params: Params) -> tuple[TrainingConfig, LoraConfig]:
    """Replaces values of the config by a trial's searched values and validates them.

    Args:
        training: The sweep's training section.
        lora: The sweep's adapter settings.
        params: Values by search-space name; those of `trainables.optim.lr_schedule` are ignored.

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
        elif name in SEARCHABLE_TRAINING:
            train_values[name] = _as_field(training, name, value)
        else:
            raise KeyError(f"{name} is not a searchable hyper-parameter")
    return TrainingConfig.model_validate(train_values), LoraConfig.model_validate(lora_values)


def is_integer_param(name: str) -> bool:
    if name in SEARCHABLE_LORA:
        return LoraConfig.model_fields[SEARCHABLE_LORA[name]].annotation is int
    return name in SEARCHABLE_TRAINING and TrainingConfig.model_fields[name].annotation is int


def _as_field(section: Section, field: str, value: float) -> float | int:
    # The search's values are floats; strict models refuse 8.0 for an int.
    return int(value) if type(section).model_fields[field].annotation is int else float(value)
