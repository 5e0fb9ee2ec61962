"""The forecast against counts made by hand."""

import dataclasses

import pytest

from sweeps.plan.cost_forecast import DEVICES, ModelShape, Work, forecast
from trainables.config.sections import TrainingConfig

SHAPE = ModelShape(parameters=1000, trained=100, hidden=8, layers=2, vocabulary=50)
WORK = Work(train_tokens=600, label_tokens=60, heldout_tokens=40, checkpoints=2, longest_tokens=20, trials=3)
TRAINING = TrainingConfig(batch_size=4, precision="bf16")


@pytest.mark.parametrize("trials", [3, 3.75])  # trials on parts of the training set count as their parts
@pytest.mark.parametrize(("method", "per_token"), [("full", 6), ("lora", 4)])
def test_operations_follow_the_usual_rule(method, per_token, trials):
    found = forecast(SHAPE, dataclasses.replace(WORK, trials=trials), TRAINING, method, DEVICES)
    assert found.trial_flops == per_token * 1000 * 600 + 2 * (2 * 1000 * 40)
    assert found.sweep_flops == trials * found.trial_flops + 2 * 1000 * 40
    assert found.device_hours["one H100"] == pytest.approx(found.sweep_flops / DEVICES["one H100"] / 3600)


@pytest.mark.parametrize(
    ("kept", "checkpoints", "trials", "expected"),
    [
        (None, 2, 3, 4 * 6 + 12),  # every checkpoint of every trial, and the one state of the trial that runs
        (None, 1, 3, 4 * 3),
        (None, 5, 3, 4 * 15 + 24),  # a state that is replaced is there twice
        (2, 5, 30, 4 * (2 + 3) + 24),  # two settings' best; of the running trial best, last and the one being written
        (2, 2, 30, 4 * (2 + 2) + 12),
        (5, 1, 3, 4 * 3),  # never more than there are
        (None, 2, 3.75, 4 * 8 + 12),
    ],
)
def test_disk_holds_what_is_kept_and_what_a_running_trial_needs(kept, checkpoints, trials, expected):
    work = dataclasses.replace(WORK, kept=kept, checkpoints=checkpoints, trials=trials)
    assert forecast(SHAPE, work, TRAINING, "lora", DEVICES).disk_bytes == 100 * expected


def test_paused_trials_save_steps_and_scores_and_hold_their_states():
    work = dataclasses.replace(WORK, checkpoints=3, trials=8, paused=7, stopped=4, pause_at=0.25)
    found = forecast(SHAPE, work, TRAINING, "full", DEVICES)
    train, score = 6 * 1000 * 600, 2 * 1000 * 40
    assert found.sweep_flops == 4 * (train + 3 * score) + 4 * (0.25 * train + score) + score
    assert found.paused_bytes == 7 * 4 * 4 * 100
    unpaused = forecast(SHAPE, dataclasses.replace(work, paused=0, stopped=0), TRAINING, "full", DEVICES)
    assert found.disk_bytes - unpaused.disk_bytes == found.paused_bytes


def test_memory_adds_weights_optimiser_activations_and_logits_and_is_none_for_an_unknown_shape():
    tokens = 4 * 20

    def rest(kept, slots=1):
        return slots * (tokens * 8 * (kept * 2 + 2 * 2) + 8 * 50 * 12)

    assert forecast(SHAPE, WORK, TRAINING, "lora", DEVICES).memory_bytes == 1000 * 2 + 100 * 16 + rest(46)
    whole = dataclasses.replace(SHAPE, trained=1000)
    assert forecast(whole, WORK, TRAINING, "full", DEVICES).memory_bytes == 1000 * 16 + 1000 * 2 + rest(65)
    packed = dataclasses.replace(WORK, slots=3)
    assert forecast(SHAPE, packed, TRAINING, "lora", DEVICES).memory_bytes == 1000 * 2 + 100 * 16 + rest(46, 3)
    frugal = TRAINING.model_copy(update={"gradient_checkpointing": True})
    plain, saved = (forecast(SHAPE, WORK, one, "lora", DEVICES).memory_bytes for one in (TRAINING, frugal))
    assert saved < plain, "gradient checkpointing saves activations"
    assert forecast(ModelShape(1000, 100), WORK, TRAINING, "lora", DEVICES).memory_bytes is None


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49152}, (576, 30, 49152)),
        ({"n_embd": 768, "n_layer": 12, "vocab_size": 50257}, (768, 12, 50257)),
        ({"text_config": {"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 9}}, (64, 3, 9)),
        ({}, (0, 0, 0)),
    ],
)
def test_families_name_their_shapes_differently(config, shape):
    found = ModelShape.of(1, 1, config)
    assert (found.hidden, found.layers, found.vocabulary) == shape
