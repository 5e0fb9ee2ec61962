"""What a plan warns of, as tables of cases."""

import pytest

from sweeps.plan.findings import epoch_findings, objective_findings, space_findings, unexplained

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
        (5, 1, []),  # at least one step
    ],
)
def test_warmup_has_twenty_steps_or_a_tenth(load, steps, warmup, found):
    assert [f.rule for f in epoch_findings(load(), steps, (warmup, steps // 2))] == found


@pytest.mark.parametrize(("size", "found"), [(1, True), (2, False), (16, False), (17, True)])
def test_batches_outside_two_to_sixteen_are_said(load, size, found):
    rules = [f.rule for f in epoch_findings(load(f"training.batch_size={size}"), 1000, (100, 200))]
    assert (rules == ["batch_size"]) is found


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
