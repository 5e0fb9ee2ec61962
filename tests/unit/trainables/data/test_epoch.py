import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.config.sections import TrainingConfig
from trainables.data.epoch import (
    checkpoint_steps,
    epoch_order,
    plan_epoch,
    report_points,
    split_by_tokens,
    split_for_worker,
    step_indices,
    steps_in_epoch,
)


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


@given(st.integers(0, 300), st.integers(0, 2**64))
def test_epoch_order_is_a_permutation_that_its_seed_repeats(n, seed):
    order = epoch_order(n, seed)
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, epoch_order(n, seed))


@given(n=st.integers(1, 300), seed=st.integers(0, 5), other=st.integers(0, 5))
def test_parts_of_a_training_set_are_nested_for_all_seeds(n, seed, other):
    quarter, half = epoch_order(n, seed, 0.25), epoch_order(n, other, 0.5)
    assert set(quarter) <= set(half) <= set(range(n))
    assert (len(set(quarter)), len(half)) == (len(quarter), max(1, round(n / 2)))
    assert np.array_equal(np.sort(quarter), np.sort(epoch_order(n, other, 0.25)))
    assert np.array_equal(epoch_order(n, seed, 1.0), epoch_order(n, seed))


def test_orders_depend_on_the_seed_only_and_a_part_is_spread_over_the_file():
    assert epoch_order(8, 0).tolist() == [2, 4, 3, 6, 5, 0, 1, 7]  # on every machine
    assert not np.array_equal(epoch_order(50, 0), epoch_order(50, 1))
    part = epoch_order(400, 0, 0.5)
    assert abs(part.mean() - 199.5) < 20
    assert not np.array_equal(part, epoch_order(400, 1, 0.5))


epochs = st.tuples(st.integers(1, 120), st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.integers(0, 9))


@given(epochs)
def test_an_epoch_trains_each_sample_exactly_once(epoch):
    n, workers, batch_size, accumulation, seed = epoch
    order, per_step = epoch_order(n, seed), workers * batch_size * accumulation
    steps = steps_in_epoch(n, per_step)
    assert (steps - 1) * per_step < n <= steps * per_step
    seen = []
    for step in range(steps):
        indices = step_indices(order, step, per_step)
        parts = [split_for_worker(indices, rank, workers, batch_size) for rank in range(workers)]
        assert len(indices) == per_step or step == steps - 1
        assert [i for part in parts for micro in part for i in micro] == indices.tolist()
        assert all(1 <= len(micro) <= batch_size for part in parts for micro in part)
        assert all(len(part) <= accumulation for part in parts)
        sizes = [sum(len(micro) for micro in part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        seen += indices.tolist()
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize("step", [-1, 3])
def test_a_step_outside_the_epoch_is_an_error(step):
    with pytest.raises(IndexError):
        step_indices(epoch_order(10, 0), step, 4)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 120), st.integers(1, 9))
def test_micro_batches_hold_each_sample_once_in_order_and_few_tokens(lengths, most, batch_size):
    sizes = np.array(lengths)
    batches = split_for_worker(np.arange(len(sizes)), 0, 1, batch_size)
    found = split_by_tokens(batches, sizes, most)
    assert [index for part in found for index in part] == list(range(len(sizes)))
    assert all(len(part) == 1 or sizes[part].sum() <= most for part in found)
    assert all(part[0] // batch_size == part[-1] // batch_size for part in found)  # never across two batches
    greedy = itertools.pairwise(found)
    assert all(sizes[[*one, two[0]]].sum() > most or two[0] % batch_size == 0 for one, two in greedy)
    assert split_by_tokens(batches, sizes, None) == batches


def test_a_short_last_step_can_leave_workers_without_samples():
    assert [split_for_worker(np.array([7, 3]), rank, 3, 2) for rank in range(3)] == [[[7]], [[3]], []]
