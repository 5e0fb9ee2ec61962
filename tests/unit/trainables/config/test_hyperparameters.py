"""Searched values in a trial's config."""

import pytest

from trainables.config.hyperparameters import idle, setting_of, with_params
from trainables.config.sections import LoraConfig, ScheduleConfig, TrainingConfig

TRAINING = TrainingConfig(schedule=ScheduleConfig(step_at=[0.6], decay_fraction=0.3))


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"batch_size": 4.0}, {"batch_size": 4}),
        ({"weight_decay": 0.1}, {"weight_decay": 0.1}),
        ({"schedule_shape": "step"}, {"schedule": ScheduleConfig(shape="step", step_at=[0.6], decay_fraction=0.3)}),
        (
            {"schedule_shape": "wsd", "decay_fraction": 0.5},
            {"schedule": ScheduleConfig(shape="wsd", step_at=[0.6], decay_fraction=0.5)},
        ),
        ({"lora_r": 8.0, "lora_alpha": 8}, {"r": 8, "alpha": 8.0}),
        ({"target_modules": "all-linear"}, {"target_modules": "all-linear"}),
        ({"target_modules": "q_proj"}, {"target_modules": ["q_proj"]}),
        ({"target_modules": "q_proj,v_proj"}, {"target_modules": ["q_proj", "v_proj"]}),
    ],
)
def test_a_value_goes_to_its_place_and_nothing_else_changes(params, found):
    training, lora = with_params(TRAINING, LoraConfig(), {"peak_lr": 1e-4, **params})
    places = training if found.keys() <= TrainingConfig.model_fields.keys() else lora
    assert {name: getattr(places, name) for name in found} == found
    assert training == TRAINING.model_copy(update=found if places is training else {})
    assert lora == LoraConfig().model_copy(update=found if places is lora else {})
    assert setting_of(training, lora).items() >= params.items()


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"schedule_shape": "wsd", "decay_fraction": 0.2}, []),
        ({"schedule_shape": "linear", "decay_fraction": 0.2}, ["decay_fraction"]),
        ({"schedule_shape": "linear"}, []),
        ({"decay_fraction": 0.2}, []),  # the config's shape is wsd then: anything else is refused
    ],
)
def test_a_decay_fraction_does_something_with_wsd_only(params, names):
    assert idle(params) == names
