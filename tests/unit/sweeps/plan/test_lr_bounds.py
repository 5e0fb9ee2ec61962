"""The recommended bounds: the table itself, its edges, and the point to try first."""

import math

import pytest

from sweeps.plan.lr_bounds import Bounds, recommended, recommended_point
from trainables.config.hyperparameters import SCHEDULE_PARAMS
from trainables.optim.lr_schedule import cap_floor


@pytest.mark.parametrize(
    ("method", "parameters", "peak", "floor"),
    [
        ("full", 7_000_000_000, (0.5e-5, 2.0e-5), (0.4e-5, 0.5e-5)),
        ("full", 1_000_000_000, (0.5e-5, 2.0e-5), (0.4e-5, 0.5e-5)),
        ("full", 999_999_999, (0.5e-5, 5e-5), (0.4e-5, 0.5e-5)),
        ("full", None, (0.5e-5, 2.0e-5), (0.4e-5, 0.5e-5)),
        ("lora", 70_000_000_000, (5e-5, 1e-3), (4e-5, 5e-5)),
        ("lora", 4_000_000_000, (5e-5, 1e-3), (4e-5, 5e-5)),
        ("lora", 3_999_999_999, (5e-5, 2e-3), (4e-5, 5e-5)),
        ("lora", None, (5e-5, 1e-3), (4e-5, 5e-5)),
    ],
)
def test_table(method: str, parameters: int | None, peak: tuple, floor: tuple) -> None:
    bounds = recommended(method, parameters)
    assert (bounds.peak_lr, bounds.decay_floor, bounds.warmup_fraction) == (peak, floor, (0.03, 0.10))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_source_says_what_is_ours_and_what_is_not_known_and_no_parameters_are_refused(method: str) -> None:
    assert "ours" in recommended(method, 135_000_000).source
    assert "size not known" in recommended(method, None).source
    assert "size not known" not in recommended(method, 8_000_000_000).source
    with pytest.raises(ValueError, match="at least 1, got 0"):
        recommended(method, 0)


@pytest.mark.parametrize(("method", "peak"), [("full", 1.0e-5), ("lora", 3e-4)])
@pytest.mark.parametrize("parameters", [135_000_000, 8_000_000_000, None])
def test_recommended_point(method: str, peak: float, parameters: int | None) -> None:
    bounds = recommended(method, parameters)
    point = recommended_point(bounds, method)
    assert set(point) == set(SCHEDULE_PARAMS)
    assert (point["peak_lr"], point["warmup_fraction"]) == (peak, 0.05)
    assert point["decay_floor"] == pytest.approx(math.sqrt(20) * (1e-6 if method == "full" else 1e-5))
    assert cap_floor(point) == (point, None)


def test_recommended_point_stays_inside_the_users_bounds() -> None:
    bounds = Bounds(peak_lr=(1e-6, 4e-6), decay_floor=(0.0, 1e-6), warmup_fraction=(0.2, 0.2), source="a config")
    point = recommended_point(bounds, "lora")
    assert point == pytest.approx({"peak_lr": 2e-6, "decay_floor": 0.5e-6, "warmup_fraction": 0.2})
    assert point["warmup_fraction"] == 0.2
