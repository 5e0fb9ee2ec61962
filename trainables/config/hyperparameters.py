"""Which hyper-parameters can be searched, and how a trial's values take the place of the config's."""

from __future__ import annotations

from trainables.config.sections import LoraConfig, Params, Section, TrainingConfig

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
    """Puts a trial's searched values in place of the config's, validated as the config's are.

    Args:
        training: The sweep's training section.
        lora: The sweep's adapter settings.
        params: Values by search-space name; the LR schedule's three are left to `trainables.optim.lr_schedule`.

    Returns:
        The two sections as this trial uses them.

    Raises:
        KeyError: A name is not searchable.
        pydantic.ValidationError: A value is out of its field's range.
    """
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
    """Whether a searched hyper-parameter takes whole numbers only."""
    if name in SEARCHABLE_LORA:
        return LoraConfig.model_fields[SEARCHABLE_LORA[name]].annotation is int
    return name in SEARCHABLE_TRAINING and TrainingConfig.model_fields[name].annotation is int


def _as_field(section: Section, field: str, value: float) -> float | int:
    return int(value) if type(section).model_fields[field].annotation is int else float(value)
