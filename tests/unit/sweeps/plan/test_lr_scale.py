"""Recommended peak LRs that follow alpha and batch, and the first point of such a space."""

import pytest

from sweeps.plan.findings import unexplained
from sweeps.plan.lr_bounds import recommended
from sweeps.plan.lr_scale import centre, factor, followed_bounds
from sweeps.plan.plan import _seed_points

PARAMETERS = 8_000_000_000  # bounds of LoRA: 5e-5 to 1e-3; of full fine-tuning: 5e-6 to 2e-5
FULL = ["model.method=full", "space.peak_lr={low: 5e-6, high: 2e-5, log: true}", "space.decay_floor=4e-6"]


@pytest.mark.parametrize(
    ("overrides", "lowest", "highest"),
    [
        ([], 1.0, 1.0),
        (["model.lora.r=4"], 1.0, 1.0),
        (["space.lora_r={low: 4, high: 64}"], 1.0, 1.0),  # at one alpha the best LR is that of any rank
        (["model.lora.alpha=16"], 2.0, 2.0),
        (["space.lora_alpha=64"], 0.5, 0.5),
        (["space.lora_alpha={low: 16, high: 64, log: true}"], 0.5, 2.0),
        (["training.batch_size=128"], 1.0, 1.0),  # the bounds count for the config's own batch
        (["space.batch_size={low: 2, high: 32}"], 0.5, 2.0),
        (["space.batch_size={low: 8, high: 32}"], 1.0, 2.0),
        (["space.gradient_accumulation={low: 1, high: 4}"], 1.0, 2.0),
        (["space.gradient_accumulation=4"], 2.0, 2.0),
        (["space.batch_size={low: 2, high: 32}", "space.lora_alpha={low: 16, high: 64}"], 0.25, 4.0),
        (FULL, 1.0, 1.0),
        ([*FULL, "model.lora.alpha=8"], 1.0, 1.0),  # a full fine-tune has no adapter
        ([*FULL, "space.batch_size={low: 2, high: 32}"], 0.5, 2.0),
    ],
)
def test_the_peak_keeps_to_the_bounds_at_the_worst_corner(load, overrides, lowest, highest):
    config = load(*overrides)
    table, bounds = recommended(config.model.method, PARAMETERS), followed_bounds(config, PARAMETERS)
    low, high = table.peak_lr
    assert bounds.peak_lr == pytest.approx((low * highest, high * lowest))
    assert (bounds.decay_floor, bounds.warmup_fraction) == (table.decay_floor, table.warmup_fraction)
    assert ("peak times" in bounds.source) is ((lowest, highest) != (1.0, 1.0))


@pytest.mark.parametrize(
    ("overrides", "fits"),
    [
        (["space.peak_lr={low: 1e-4, high: 5e-4}"], True),
        (["space.peak_lr={low: 9e-5, high: 5e-4}"], False),  # times 16 / 32 below 5e-5
        (["space.peak_lr={low: 1e-4, high: 6e-4}"], False),  # times 64 / 32 above 1e-3
    ],
)
def test_a_range_is_checked_at_both_ends_of_alpha(load, overrides, fits):
    config = load("space.lora_alpha={low: 16, high: 64}", *overrides)
    errors = unexplained(config, PARAMETERS)
    assert (errors == []) is fits
    if not fits:
        assert "must keep to the recommended 0.0001 to 0.0005" in str(errors[0])
        assert "the best LR is inverse to alpha" in str(errors[0])


def test_where_no_peak_suits_both_ends_the_line_says_so(load):
    (error,) = unexplained(load("space.lora_alpha={low: 1, high: 64}"), PARAMETERS)
    assert "no peak LR suits both ends of alpha and batch" in error.remedy
    assert unexplained(load("space.lora_alpha={low: 1, high: 64}", "space.beyond_recommended=a test"), PARAMETERS) == []


@pytest.mark.parametrize(
    ("overrides", "peak", "beside"),
    [
        ([], 3e-4, {}),
        (["model.lora.alpha=64"], 1.5e-4, {}),
        (["space.lora_alpha=64"], 1.5e-4, {}),
        (["space.lora_alpha={low: 16, high: 64}"], 3e-4, {"lora_alpha": 32.0}),  # the config's own value
        (["space.lora_alpha={low: 64, high: 128}"], 1.5e-4, {"lora_alpha": 64.0}),  # the nearest to it
        (["space.batch_size={low: 2, high: 4}"], 3e-4 / 2**0.5, {"batch_size": 4}),
        (["space.lora_r={low: 4, high: 8}"], 3e-4, {"lora_r": 8}),
        (["space.schedule_shape={choices: [cosine, linear]}"], 3e-4, {"schedule_shape": "linear"}),
        (["space.schedule_shape={choices: [cosine, wsd]}"], 3e-4, {"schedule_shape": "cosine"}),
    ],
)
def test_the_first_point_is_the_configs_own_setting_at_the_best_lr_for_it(load, overrides, peak, beside):
    config = load(*overrides)
    (point,) = _seed_points(config)
    assert point["peak_lr"] == pytest.approx(peak)
    assert {name: value for name, value in point.items() if name in beside} == beside
    assert point.keys() - {"peak_lr", "warmup_fraction", "decay_floor"} == beside.keys()
    assert all(type(point[name]) is type(value) for name, value in beside.items())
    assert peak == pytest.approx(3e-4 * factor(config, centre(config)))
