"""What a plan warns of, as tables of cases."""

import pytest

from sweeps.plan.findings import (
    epoch_findings,
    objective_findings,
    space_findings,
    template_findings,
    unexplained,
)

PARAMETERS = 8_000_000_000  # bounds of LoRA: 5e-5 to 1e-3


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("space.peak_lr.low=4e-5", "space.peak_lr"),
        ("space.peak_lr.high=2e-3", "space.peak_lr"),
        ("space.peak_lr=2e-3", "space.peak_lr"),
        ("space.warmup_fraction.high=0.2", "space.warmup_fraction"),
        ("space.decay_floor=3e-5", "space.decay_floor"),
    ],
)
def test_leaving_the_recommended_bounds_needs_a_reason(load, override, where):
    (error,) = unexplained(load(override), PARAMETERS)
    assert str(error).startswith(f"{where}: must keep to the recommended ")
    assert "space.beyond_recommended" in str(error)
    told = load(override, "space.beyond_recommended=a tiny data set")
    assert unexplained(told, PARAMETERS) == []
    (finding,) = [f for f in space_findings(told, PARAMETERS) if f.rule == "beyond_recommended"]
    assert where in finding.message
    assert "a tiny data set" in finding.message


def test_the_recommended_bounds_need_none_and_a_small_model_may_have_a_higher_peak(load):
    assert unexplained(load(), PARAMETERS) == []
    assert unexplained(load("space.peak_lr.high=2e-3"), 135_000_000) == []


# 4e-5 is the small config's own floor: it leaves no bounds either.
@pytest.mark.parametrize(("floor", "found"), [(4e-5, []), (4.1e-5, ["floor_near_peak"])])
def test_a_floor_above_four_fifths_of_the_lowest_peak_is_said(load, floor, found):
    config = load(f"space.decay_floor={floor}")
    assert [f.rule for f in space_findings(config, PARAMETERS)] == found


@pytest.mark.parametrize(
    ("steps", "warmup", "found"),
    [
        (1000, 20, []),
        (1000, 19, ["short_warmup"]),
        (50, 5, []),
        (50, 4, ["short_warmup"]),
        (2, 0, ["short_warmup"]),
        (1, 0, ["one_step"]),
        (5, 1, []),  # at least one step
    ],
)
def test_warmup_has_twenty_steps_or_a_tenth(load, steps, warmup, found):
    assert [f.rule for f in epoch_findings(load(), steps, warmup)] == found


def test_the_usual_warmup_of_a_short_epoch_is_a_number_that_can_be_missed(load):
    (finding,) = epoch_findings(load(), 4, 0)
    assert "only 0 of 4 steps (at least 1 recommended)" in finding.message


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("training.batch_size=1", True),
        ("training.batch_size=2", False),
        ("training.batch_size=16", False),
        ("training.batch_size=17", True),
        ("space.batch_size={low: 2, high: 16}", False),
        ("space.batch_size={low: 1, high: 16}", True),
        ("space.batch_size={low: 2, high: 17}", True),
        ("space.batch_size=17", True),
    ],
)
def test_batches_outside_two_to_sixteen_are_said(load, override, found):
    rules = [f.rule for f in epoch_findings(load(override), 1000, 100)]
    assert (rules == ["batch_size"]) is found


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (r"data.template=<human>: {prompt}\n<bot>: {response}", True),
        (r'data.template="<human>: {prompt}\n<bot>: {response}"', False),
        ("data.template=<human>: {prompt}<bot>: {response}", False),
        ("data.template=null", False),
    ],
)
def test_a_line_break_that_is_none_is_said(load, override, said):
    assert (["no_line_break"] if said else []) == [finding.rule for finding in template_findings(load(override))]


@pytest.mark.parametrize(
    ("statement", "clear"),
    [
        ("Answer questions on tables with the bare figure.", True),
        ("Answer.", False),
        ("Say here in a sentence or two what the fine-tuned model should do better than the base model.", False),
    ],
)
def test_an_objective_says_what_should_get_better(load, statement, clear):
    assert (list(objective_findings(load(f"objective={statement}"))) == []) is clear
