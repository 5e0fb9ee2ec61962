import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.config.sections import TrainingConfig
from trainables.data.epoch import checkpoint_steps, plan_epoch, report_points


@pytest.mark.parametrize(
    ("fractions", "steps", "expected"),
    [
        ([1.0], 10, (10,)),
        ([0.5, 1.0], 10, (5, 10)),
        ([0.25, 0.5, 0.75, 1.0], 7, (2, 4, 5, 7)),  # 1.75, 3.5 (to the even one), 5.25
        ([0.01, 1.0], 10, (1, 10)),  # never before the first step
        ([0.5, 0.9, 1.0], 1, (1,)),  # three that coincide
    ],
)
def test_checkpoints_are_at_the_steps_nearest_to_their_fractions(fractions, steps, expected):
    assert checkpoint_steps(fractions, steps) == expected


@given(steps=st.integers(1, 5000))
def test_reports_are_at_most_twenty_evenly_spread_and_end_with_the_last_step(steps):
    points = sorted(report_points(steps))
    assert len(points) == min(steps, 20)
    assert points[-1] == steps
    gaps = [b - a for a, b in zip([0, *points], points, strict=False)]
    assert max(gaps) - min(gaps) <= 1


@given(
    samples=st.integers(1, 400),
    batch_size=st.integers(1, 16),
    accumulation=st.integers(1, 4),
    workers=st.integers(1, 4),
)
def test_an_epoch_sees_every_sample_and_ends_with_a_checkpoint(samples, batch_size, accumulation, workers):
    training = TrainingConfig(batch_size=batch_size, gradient_accumulation=accumulation, checkpoints_at=[0.3, 1.0])
    epoch = plan_epoch(samples, training, workers)
    assert epoch.samples_per_step == batch_size * accumulation * workers
    assert epoch.samples_seen(epoch.steps) == samples
    assert epoch.samples_seen(epoch.steps - 1) == (epoch.steps - 1) * epoch.samples_per_step < samples
    assert epoch.checkpoints[-1] == epoch.steps
    assert set(epoch.checkpoints) <= epoch.report_points
