"""What more data would bring, and a winner by one area: tables of cases with a known truth."""

import numpy as np
import pytest

from analysis.stats.data_scaling import more_data
from analysis.stats.one_area_winner import one_area_winner

AREAS = ("contracts", "invoices", "tables")
ITEMS = 80
GROUPS = {area: [f"{area}-{index // 2}" for index in range(ITEMS)] for area in AREAS}
WEIGHTS = dict.fromkeys(AREAS, 1.0)


def items(level=2.0, seed=0, **shift):
    difficulty, noise = np.random.default_rng(1).gamma(4, 0.2, (3, ITEMS)), np.random.default_rng(seed + 5)
    return {
        area: (level + difficulty[k] + shift.get(area, 0.0) + noise.normal(0, 0.05, ITEMS)).tolist()
        for k, area in enumerate(AREAS)
    }


HALVING = (items(2.0, 1), items(1.6, 2), items(1.4, 3))


def measure(quarter, half, full, seed_sd=0.0):
    return more_data(quarter, half, full, GROUPS, WEIGHTS, seed_sd)


def test_gains_that_halve_with_each_doubling():
    found = measure(*HALVING)
    assert found.verdict == "more data helps"
    assert found.from_quarter[0] == pytest.approx(0.4, abs=0.03)
    gain, low, high = found.from_half
    assert low < 0.2 < high
    assert gain == pytest.approx(0.2, abs=0.03)
    expected, most = found.next_doubling
    assert expected == pytest.approx(0.1, abs=0.03)
    assert most == high
    assert f"twice the data may bring about {expected:.3f}, at most {most:.3f}" in found.sentence()


def test_seed_variance_widens_the_interval():
    sure, unsure = (measure(*HALVING, seed_sd=sd) for sd in (0.0, 0.3))
    assert unsure.verdict == "undecided"
    width = (unsure.from_half[2] - unsure.from_half[1]) / 2
    # Two trials, each with its own luck: sqrt(2) x 0.3 and hardly any item noise.
    assert width == pytest.approx(np.sqrt(2) * 0.3 * 1.99, rel=0.05)
    assert unsure.from_half[0] == sure.from_half[0]


def test_no_gain_a_loss_and_a_gain_that_is_not_expected_to_grow_on():
    flat = measure(items(2.0, 1), items(1.6, 2), items(1.6, 3))
    assert flat.verdict == "more data hardly helps"
    worse = measure(items(2.0, 1), items(1.6, 2), items(1.9, 3))
    assert worse.verdict == "more data hardly helps"
    assert worse.next_doubling is None
    grew = measure(items(2.0, 1), items(1.9, 2), items(1.5, 3))
    assert grew.next_doubling[0] == pytest.approx(grew.from_half[0])


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_without_all_three_it_is_not_measured(missing):
    given = [*HALVING]
    given[missing] = None
    found = measure(*given)
    assert found.verdict == "not measured"
    assert found.sentence() == "What more data would bring: not measured."


def one_area(winner, *others):
    return one_area_winner(40, winner, {f"t{k}": other for k, other in enumerate(others)}, GROUPS, WEIGHTS)


def test_a_winner_by_a_single_area():
    finding = one_area(items(seed=1, tables=-1.0, invoices=0.2, contracts=0.2), items(seed=2), items(seed=3))
    assert (finding["rule"], finding["severity"], finding["step"]) == ("one_area_winner", "warning", 40)
    assert finding["evidence"]["won"] == "tables"
    assert finding["evidence"]["lost"] == "contracts, invoices"
    assert finding["evidence"]["gain_on_tables"] == pytest.approx(1.0, abs=0.05)
    assert "heldout.areas.tables.weight" in finding["advice"]


@pytest.mark.parametrize(
    "winner",
    [
        pytest.param({"tables": -1.0, "invoices": -0.3, "contracts": 0.2}, id="two areas won"),
        pytest.param({"tables": -1.0}, id="nothing lost"),
        pytest.param({"invoices": 0.2}, id="nothing won"),
        pytest.param(dict.fromkeys(AREAS, -0.5), id="all won"),
    ],
)
def test_other_winners(winner):
    assert one_area(items(seed=1, **winner), items(seed=2), items(seed=3)) is None


def test_it_takes_two_trials_and_two_areas():
    assert one_area(items(seed=1, tables=-1.0, invoices=0.2, contracts=0.2)) is None
    alone = {"tables": items(seed=1, tables=-1.0)["tables"]}
    assert one_area(alone, {"tables": items(seed=2)["tables"]}) is None
