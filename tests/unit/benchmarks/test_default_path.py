"""The posed sweeps of `benchmarks.confirm.default_path`: luck as recorded, claims as the leaderboard makes them."""

import numpy as np
import pytest

from benchmarks.confirm.combination import TRIALS, WAYS, compare
from benchmarks.confirm.default_path import RECORDINGS, contenders, planted, told_apart
from benchmarks.confirm.posed_sweep import World, called_worse
from benchmarks.confirm.recorded_luck import RecordedLuck


@pytest.fixture(scope="module", params=RECORDINGS, ids=lambda path: path.stem)
def luck(request):
    return RecordedLuck.read(request.param)


def test_new_seeds_have_the_recorded_ones_spread_at_every_lr(luck):
    draw = np.random.default_rng(0)
    seeds = [luck.new_seed(draw) for _ in range(2000)]
    for decades in (luck.decades[0], luck.decades[-1]):
        values = [luck.objective(luck.luck_of(decades, seed)) for seed in seeds]
        assert np.std(values) == pytest.approx(luck.sd(decades), rel=0.06)
        assert np.mean(values) == pytest.approx(0.0, abs=0.1 * luck.sd(decades))


def test_between_lrs_worth_lies_between(luck):
    low, high = (luck.worth[k, -1] for k in (0, 1))
    assert luck.worth_of(luck.decades[:2].mean()) == pytest.approx((low + high) / 2)
    assert luck.worth_of(luck.decades[1]) == pytest.approx(high)
    assert len(luck.items(np.random.default_rng(0), 64)) == 64


def test_what_is_far_worse_is_called_worse_and_equals_are_not(luck):
    world = World(luck, 16, 64, 4, 0)
    assert called_worse(world.rank(world.search())) == []
    worst = int(np.argmax(world.decades))
    world.worth = 100.0 * (world.decades - world.decades.min()) ** 2
    board = world.rank(world.search())
    assert f"t{worst + 1:04d}" in called_worse(board)
    assert len(set(contenders(board))) == 2


def test_gaps_are_counted_in_sds_of_both_settings():
    worth, sds = np.array([0.0, 2.0, 4.0, 9.0]), np.ones(4)
    assert told_apart(worth, sds, 0, {2, 3}) == [[0, 1], [1, 1]]


def test_a_planted_gap_is_named_and_nothing_is_claimed_by_five_trials(luck):
    found = planted(luck, 5)
    assert found["named"]["found"] >= 4
    assert (found["at_least_four_of_five"]["found"], found["sweeps_that_claim"]["found"]) == (1, 0)


def test_a_paused_sweep_trains_five_of_twelve_to_the_end(luck):
    found = compare(luck, 0, contenders)
    assert set(found) == set(WAYS)
    assert found["paused"].executed == pytest.approx((5 + 7 * 0.25) / TRIALS)
    assert found["not paused"].executed == 1.0
    assert all(one.regret >= -1e-9 for one in found.values())
