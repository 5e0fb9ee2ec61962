"""LR schedules against closed forms, against transformers, at the five points, and by invariants."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from trainables.config.sections import ScheduleConfig
from trainables.errors import UserError
from trainables.optim.lr_schedule import LRSchedule, as_used, cap_floor, make_schedule

PEAK, FLOOR, STEPS, WARMUP = 1e-3, 1e-4, 110, 10


def schedule(shape: str, **changes: object) -> LRSchedule:
    values = {"peak_lr": PEAK, "floor_lr": FLOOR, "steps": STEPS, "warmup_steps": WARMUP, "shape": shape} | changes
    return LRSchedule(**values)


# Steps 0, 4 and 9 are the start, the middle and the end of the warm-up; 59 is half way down (p = 0.5); 109 is the last.
@pytest.mark.parametrize(
    ("shape", "mid_decay"),
    [
        ("linear", (PEAK + FLOOR) / 2),
        ("cosine", (PEAK + FLOOR) / 2),
        ("step", PEAK * math.sqrt(FLOOR / PEAK)),
        ("wsd", PEAK),
    ],
)
def test_five_points(shape: str, mid_decay: float) -> None:
    lr = schedule(shape)
    assert lr(0) == pytest.approx(PEAK / WARMUP)
    assert lr(4) == pytest.approx(PEAK / 2)
    assert lr(9) == PEAK
    assert lr(59) == pytest.approx(mid_decay)
    assert lr(109) == FLOOR


@pytest.mark.parametrize("step", [10, 34, 59, 84, 108])
def test_linear_and_cosine_follow_their_closed_forms(step: int) -> None:
    progress = (step - WARMUP + 1) / (STEPS - WARMUP)
    assert schedule("linear")(step) == pytest.approx(PEAK - (PEAK - FLOOR) * progress)
    cosine = FLOOR + (PEAK - FLOOR) * math.cos(math.pi * progress / 2) ** 2
    assert schedule("cosine")(step) == pytest.approx(cosine)


@pytest.mark.parametrize("warmup", [1, 3, 10, 29])
@pytest.mark.parametrize(
    ("shape", "reference"),
    [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)],
)
def test_floor_zero_is_transformers_one_step_on(shape: str, reference, warmup: int) -> None:
    """transformers spends step 0 at LR 0 and reaches 0 only after the last step; ours is theirs from step 1 on."""
    steps = 30
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = reference(optimizer, warmup, steps)
    theirs = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        theirs.append(scheduler.get_last_lr()[0])
    lr = schedule(shape, floor_lr=0.0, steps=steps, warmup_steps=warmup)
    assert [lr(step) for step in range(steps)] == pytest.approx(theirs, abs=1e-12)


def test_step_falls_by_equal_factors_at_fractions_of_the_epoch() -> None:
    lr = schedule("step", peak_lr=8e-4, floor_lr=1e-4, step_at=(0.3, 0.6, 0.9), steps=100)
    assert [lr(step) for step in (29, 30, 59, 60, 89, 90)] == pytest.approx([8e-4, 4e-4, 4e-4, 2e-4, 2e-4, 1e-4])


def test_milestone_inside_the_warmup_waits_for_its_end() -> None:
    lr = schedule("step", step_at=(0.0, 0.5))
    assert lr(9) == PEAK
    assert lr(10) == pytest.approx(PEAK * math.sqrt(FLOOR / PEAK))


def test_wsd_holds_then_decays_linearly_over_the_last_fraction() -> None:
    lr = schedule("wsd", steps=100, decay_fraction=0.2)
    assert {lr(step) for step in range(9, 80)} == {PEAK}
    falling = [PEAK - (PEAK - FLOOR) * part / 20 for part in range(1, 21)]  # steps 80 to 99, down to the floor
    assert [lr(step) for step in range(80, 100)] == pytest.approx(falling)


def test_wsd_warmup_and_decay_may_meet_one_step_late_and_no_later() -> None:
    """0.1 and 0.9 of 15 steps are 1.5 and 13.5, both rounded up: the warm-up's last step is the first of the decay."""
    config = ScheduleConfig(shape="wsd", decay_fraction=0.9)
    lr = make_schedule({"peak_lr": PEAK, "decay_floor": FLOOR, "warmup_fraction": 0.1}, config, 15)
    assert (lr(0), lr(1)) == (PEAK / 2, PEAK)
    assert lr(2) == pytest.approx(PEAK - (PEAK - FLOOR) / 13)
    with pytest.raises(UserError, match="3 warm-up and 14 decay steps of 15"):
        schedule("wsd", steps=15, warmup_steps=3, decay_fraction=0.9)


def test_no_warmup_is_one_step_of_warmup() -> None:
    none, one = schedule("linear", warmup_steps=0), schedule("linear", warmup_steps=1)
    assert [none(step) for step in range(STEPS)] == [one(step) for step in range(STEPS)]
    assert none(0) == PEAK


@pytest.mark.parametrize("shape", ["linear", "cosine", "step", "wsd"])
def test_one_step_epoch_is_at_the_floor(shape: str) -> None:
    assert schedule(shape, steps=1, warmup_steps=0)(0) == FLOOR


@pytest.mark.parametrize("step", [-1, STEPS])
@pytest.mark.parametrize("ask", [LRSchedule.lr, LRSchedule.phase])
def test_steps_outside_the_epoch_are_refused(step: int, ask) -> None:
    with pytest.raises(ValueError, match="step must be in 0 to 109"):
        ask(schedule("linear"), step)


def test_phases_of_a_linear_schedule() -> None:
    lr = schedule("linear", floor_lr=0.0)
    phases = [lr.phase(step) for step in range(STEPS)]
    # LR >= 0.8 of the peak while p <= 0.2: 20 of the 100 decay steps.
    assert phases == ["warmup"] * 10 + ["peak"] * 20 + ["decay"] * 80


@st.composite
def schedules(draw: st.DrawFn) -> LRSchedule:
    peak = draw(st.floats(1e-9, 1.0))
    steps = draw(st.integers(1, 400))
    shape = draw(st.sampled_from(["linear", "cosine", "step", "wsd"]))
    floor = peak * draw(st.floats(0.0, 1.0))
    if shape == "step" and floor == 0.0:
        floor = peak
    decay_fraction = draw(st.floats(0.001, 1.0))
    most_warmup = steps + 1 - round(decay_fraction * steps) if shape == "wsd" else steps - 1
    warmup = draw(st.integers(0, min(most_warmup, steps - 1)))
    step_at = sorted(set(draw(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4))))
    return LRSchedule(peak, floor, steps, warmup, shape, tuple(step_at), decay_fraction)


@settings(deadline=None)
@given(schedules())
def test_invariants(lr: LRSchedule) -> None:
    rates = [lr(step) for step in range(lr.steps)]
    assert rates[-1] == lr.floor_lr
    assert all(min(rates[0], lr.floor_lr) <= rate <= lr.peak_lr for rate in rates)
    warm, cool = rates[: lr.warmup_steps], rates[max(lr.warmup_steps - 1, 0) :]
    assert warm == sorted(warm)
    assert cool == sorted(cool, reverse=True)
    if lr.steps > 1:
        assert rates[max(lr.warmup_steps - 1, 0)] == lr.peak_lr
    if lr.warmup_steps:
        assert rates[0] > 0.0


@settings(deadline=None)
@given(schedules())
def test_phases_come_in_order(lr: LRSchedule) -> None:
    order = ["warmup", "peak", "decay"]
    places = [order.index(lr.phase(step)) for step in range(lr.steps)]
    assert places == sorted(places)
    assert places.count(0) == lr.warmup_steps


def test_make_schedule_reads_params_and_config() -> None:
    config = ScheduleConfig(shape="step", step_at=[0.25, 0.5], decay_fraction=0.3)
    made = make_schedule({"peak_lr": 3e-4, "warmup_fraction": 0.05, "decay_floor": 5e-5}, config, 250)
    assert made == LRSchedule(3e-4, 5e-5, 250, 12, "step", (0.25, 0.5), 0.3)


GOOD = {"peak_lr": 1e-4, "warmup_fraction": 0.1, "decay_floor": 1e-5}


WRONG = {
    "peak_lr": (0.0, math.nan, math.inf),
    "decay_floor": (2e-4, -1e-9, math.nan),
    "warmup_fraction": (1.0, -0.1, 0.99),
}
WSD = {"shape": "wsd", "decay_fraction": 1.0}


@pytest.mark.parametrize(
    ("params", "config", "steps", "where"),
    [
        *((GOOD | {name: value}, {}, 10, f"space.{name}") for name, values in WRONG.items() for value in values),
        (GOOD | {"decay_floor": 0.0}, {"shape": "step"}, 10, "space.decay_floor"),
        (GOOD | {"warmup_fraction": 0.2}, WSD, 100, "training.schedule.decay_fraction"),
        (GOOD, {}, 0, "data.train"),
        ({"peak_lr": 1e-4, "decay_floor": 1e-5}, {}, 10, "space.warmup_fraction"),
    ],
)
def test_mistakes_are_refused_by_name(params: dict, config: dict, steps: int, where: str) -> None:
    with pytest.raises(UserError) as caught:
        make_schedule(params, ScheduleConfig(**config), steps)
    assert caught.value.where == where


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.integers(2, 300))
def test_warmup_and_decay_that_share_the_epoch_fit_whatever_the_rounding(warmup: float, steps: int) -> None:
    params = GOOD | {"warmup_fraction": warmup}
    config = ScheduleConfig(shape="wsd", decay_fraction=1.0 - warmup)
    if round(warmup * steps) < steps:
        assert make_schedule(params, config, steps)(steps - 1) == params["decay_floor"]


@pytest.mark.parametrize(
    ("peak", "floor", "used", "drawn"),
    [
        (1e-5, 0.5e-5, 0.5e-5, None),
        (1e-5, 0.8 * 1e-5, 0.8 * 1e-5, None),
        (0.5e-5, 0.5e-5, 0.8 * 0.5e-5, {"decay_floor": 0.5e-5}),
        (1e-5, 3e-5, 0.8 * 1e-5, {"decay_floor": 3e-5}),
    ],
)
def test_cap_floor(peak: float, floor: float, used: float, drawn: dict | None) -> None:
    params = {"peak_lr": peak, "decay_floor": floor, "warmup_fraction": 0.05, "lora_r": 8.0}
    before = dict(params)
    assert cap_floor(params) == (before | {"decay_floor": used}, drawn)
    assert params == before


@pytest.mark.parametrize(
    ("changed", "without", "drawn"),
    [
        ({}, {"decay_fraction"}, {"decay_fraction": 0.4}),
        ({"schedule_shape": "wsd"}, set(), None),
        ({"decay_floor": 9e-6}, {"decay_fraction"}, {"decay_fraction": 0.4, "decay_floor": 9e-6}),
        ({"schedule_shape": "wsd", "decay_floor": 9e-6}, set(), {"decay_floor": 9e-6}),
    ],
)
def test_what_does_nothing_is_no_hyperparameter_of_the_trial(changed: dict, without: set, drawn: dict | None) -> None:
    params = GOOD | {"peak_lr": 1e-5, "decay_floor": 1e-6, "schedule_shape": "linear", "decay_fraction": 0.4} | changed
    used, found = as_used(params)
    assert (params.keys() - used.keys(), found) == (without, drawn)
    assert {**used, **(found or {})} == params
