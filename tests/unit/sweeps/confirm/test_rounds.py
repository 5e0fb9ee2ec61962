"""Replicates: who contends, which round comes next, what they decide, and that it all follows from the records."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from sweeps.confirm.contenders import choose_contenders
from sweeps.confirm.power import POWER, detectable_gap
from sweeps.confirm.replicates import Replicate, fit_replicates
from sweeps.confirm.rounds import Rules, State, plan_round, verdict

NAMES = ("a", "b", "c", "d")


def state(objectives, contenders=NAMES, **rules):
    """A state from {setting: [objective of round 1, 2, …]}; None for a replicate that diverged."""
    replicates = tuple(
        Replicate(setting, 10 + number, value, "complete" if value is not None else "diverged")
        for setting, values in objectives.items()
        for number, value in enumerate(values, start=1)
    )
    return State(tuple(contenders), 10, replicates, Rules(**{"budget": 16, "epsilon": 1e-9, **rules}))


def simulate(means, noise, draw, contenders=NAMES, **rules):
    """Trains rounds as planned until none is; returns the verdict."""
    found = []
    while True:
        now = State(tuple(contenders), 0, tuple(found), Rules(**{"budget": 16, "epsilon": 1e-9, **rules}))
        planned = plan_round(now)
        if not planned:
            return verdict(now)
        block = draw.normal(0, 3 * noise)
        found += [Replicate(name, seed, means[name] + block + draw.normal(0, noise)) for name, seed in planned]


# --- rounds


def test_a_round_gives_all_contenders_the_same_new_seed_and_is_made_whole_after_an_interruption() -> None:
    assert plan_round(state({})) == [(name, 11) for name in NAMES]
    one = {name: [float(i)] for i, name in enumerate(NAMES)}
    assert plan_round(state(one)) == [(name, 12) for name in NAMES]
    now = state({"a": [1.0, 1.0], "b": [1.0], "c": [1.0, 1.1], "d": [1.0]})
    assert plan_round(now) == [("b", 12), ("d", 12)]
    assert verdict(now).rounds == 1


def test_worse_by_the_tests_half_width_drops_out() -> None:
    """t s sqrt(2 / r), against scipy's t and the two-way table: after the second of four rounds of four contenders."""
    draw = np.random.default_rng(1)
    table = draw.normal(size=(4, 2))
    for gap, dropped in ((0.99, False), (1.01, True)):
        residual = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
        sd = np.sqrt((residual**2).sum() / 3)
        width = stats.t.ppf(1 - 0.05 / 12 * 4 / 30, 3) * sd * np.sqrt(2 / 2)
        level = table - table.mean(1, keepdims=True) + np.array([0.0, 0.1, 0.2, gap * width])[:, None] * 1.0
        found = verdict(state(dict(zip(NAMES, level.tolist(), strict=True))))
        assert found.sd == pytest.approx(sd)
        assert found.half_width == pytest.approx(width)
        last = found.standings[-1]
        assert (last.setting, last.dropped_in, last.why) == ("d", *((2, "worse") if dropped else (None, None)))


def test_none_drops_out_before_the_sd_is_known_and_those_dropped_get_no_further_replicates() -> None:
    far = {"a": [1.0], "b": [2.0], "c": [3.0], "d": [100.0]}
    assert len(plan_round(state(far))) == 4
    assert [name for name, _ in plan_round(state(far, seed_sd=0.01))] == []
    assert verdict(state(far, seed_sd=0.01)).winner == "a"
    found = {"a": [1.0, 1.1], "b": [1.01, 1.12], "c": [1.02, 1.11], "d": [9.0, 9.1]}
    assert [name for name, _ in plan_round(state(found))] == ["a", "b", "c"]


def test_a_diverged_replicate_drops_its_setting() -> None:
    found = verdict(state({"a": [None], "b": [1.0], "c": [1.1], "d": [1.2]}))
    assert (found.standings[-1].setting, found.standings[-1].why, found.standings[-1].mean) == ("a", "diverged", None)
    left = verdict(state({"a": [None], "b": [1.0]}, contenders=("a", "b")))
    assert (left.ended, left.winner) == ("separated", "b")
    assert verdict(state({"a": [None], "b": [None]}, contenders=("a", "b"))).winner is None


def test_a_failed_replicate_costs_budget_and_tells_nothing() -> None:
    values = {"a": [1.0, 1.13], "b": [1.2, 1.3]}
    base = state(values, contenders=("a", "b"), budget=6)
    failed = State(base.contenders, 10, (*base.replicates, Replicate("a", 13, None, "failed")), base.rules)
    assert plan_round(failed) == [("b", 13)]
    assert fit_replicates(failed.replicates) == fit_replicates(base.replicates)
    assert verdict(failed).spent == 5


@pytest.mark.parametrize(
    ("looks", "rounds", "ended"),
    [("auto", 1, "running"), ("auto", 3, "running"), ("auto", 4, "separated"), ("every_round", 2, "separated")],
)
def test_two_contenders_are_compared_once_after_the_last_planned_round(looks, rounds, ended) -> None:
    values = {"a": [1.0, 1.01, 0.99, 1.0], "b": [2.0, 2.0, 2.0, 2.01]}
    now = state({name: found[:rounds] for name, found in values.items()}, "ab", budget=8, looks=looks)
    found = verdict(now)
    assert (found.ended, found.rounds) == (ended, rounds)
    assert len(plan_round(now)) == (0 if ended == "separated" else 2)


@pytest.mark.parametrize(("gap", "winner"), [(0.99, None), (1.01, "a")])
def test_the_one_test_of_two_contenders_spends_the_whole_alpha(gap, winner) -> None:
    table = np.random.default_rng(2).normal(size=(2, 4))
    table -= table.mean(1, keepdims=True)
    sd = np.sqrt(((table - table.mean(0)) ** 2).sum() / 3)
    table[1] += gap * stats.t.ppf(1 - 0.05 / 2, 3) * sd * np.sqrt(2 / 4)
    assert verdict(state(dict(zip("ab", table.tolist(), strict=True)), "ab", budget=8)).winner == winner


# --- power


@pytest.mark.parametrize(
    ("settings", "rounds", "stated"), [(2, 2, False), (2, 4, False), (4, 4, False), (2, 1, True), (2, 2, True)]
)
def test_a_detectable_gap_is_detected_in_four_of_five_confirmations(settings, rounds, stated) -> None:
    gap = detectable_gap(settings, rounds, stated=stated)
    tail, df = 0.05 / 2, (settings - 1) * (rounds - 1) + (4 if stated else 0)
    if settings > 2:
        tail = 0.05 / (settings * (settings - 1)) * rounds**2 / sum(r**2 for r in range(1, rounds + 1))
    noncentrality = gap / np.sqrt(2 / rounds)
    assert stats.nct.sf(stats.t.ppf(1 - tail, df), df, noncentrality) == pytest.approx(POWER, abs=1e-4)


def test_the_power_is_that_of_replayed_confirmations() -> None:
    draw, gap, runs = np.random.default_rng(9), detectable_gap(2, 4), 400
    means = {"a": 1.0, "b": 1.0 + 0.1 * gap}
    told = sum(simulate(means, 0.1, draw, "ab", budget=8).winner == "a" for _ in range(runs))
    assert stats.binom.ppf(0.001, runs, POWER) <= told <= stats.binom.ppf(0.999, runs, POWER)


def test_without_a_spread_no_gap_is_detectable() -> None:
    assert detectable_gap(2, 1) is None


# --- the end


@pytest.mark.parametrize(
    ("rules", "ended", "rounds"),
    [
        ({"budget": 0}, "budget", 0),
        ({"budget": 3}, "budget", 0),
        ({"budget": 4}, "budget", 1),
        ({"budget": 11}, "budget", 2),
        ({"rounds": 1}, "rounds", 1),
        ({}, "rounds", 4),
        ({"epsilon": 1e9}, "tie", 2),
        ({"epsilon": 1e9, "seed_sd": 0.1}, "tie", 1),
    ],
)
def test_why_it_ends(rules, ended, rounds) -> None:
    found = simulate(dict.fromkeys(NAMES, 1.0), 0.1, np.random.default_rng(3), **rules)
    assert (found.ended, found.rounds, found.spent) == (ended, rounds, 4 * rounds)
    assert found.winner is None
    assert sorted(found.tied) == list(NAMES)


@pytest.mark.parametrize(
    ("budget", "rounds", "planned"), [(16, 4, 4), (15, 4, 3), (8, 4, 2), (7, 4, 1), (1, 4, 1), (100, 2, 2)]
)
def test_a_budget_that_pays_for_fewer_rounds_spends_its_error_on_those(budget, rounds, planned) -> None:
    values = {name: [1.0, 1.1] for name in NAMES}
    found = verdict(state(values | {"d": [1.0, 1.4]}, budget=budget, rounds=rounds))
    whole = sum(number**2 for number in range(1, planned + 1))
    looked = min(2, planned)
    tail = 0.05 / 12 * looked**2 / whole
    assert found.rounds == looked
    if looked == 2:
        assert found.half_width == pytest.approx(stats.t.ppf(1 - tail, found.df) * found.sd)


def test_the_verdict_does_not_hang_on_the_order_of_the_records() -> None:
    draw = np.random.default_rng(5)
    values = {name: draw.normal(size=2).tolist() for name in NAMES}
    whole = state(values)
    for order in itertools.islice(itertools.permutations(whole.replicates), 0, 40320, 997):
        assert verdict(State(whole.contenders, 10, tuple(order), whole.rules)) == verdict(whole)


@pytest.mark.parametrize(
    "replicate",
    [
        Replicate("stranger", 11, 1.0),
        Replicate("a", 10, 1.0),
        Replicate("a", 15, 1.0),
        Replicate("a", 11, None),
        Replicate("a", 11, float("nan")),
        Replicate("a", 11, 1.0, "diverged"),
    ],
)
def test_records_that_do_not_belong_are_refused(replicate) -> None:
    with pytest.raises(ValueError, match=r"must|has"):
        State(NAMES, 10, (replicate,), Rules(budget=4))


# --- error rates


def test_equal_settings_are_seldom_separated_and_settings_far_apart_always() -> None:
    draw = np.random.default_rng(7)
    wrong = sum(any(s.dropped_in for s in simulate(dict.fromkeys(NAMES, 1.0), 0.1, draw).standings) for _ in range(150))
    assert wrong <= stats.binom.ppf(0.999, 150, 0.05)
    draw = np.random.default_rng(8)
    means = dict(zip(NAMES, (1.0, 2.0, 2.0, 2.0), strict=True))
    winners = [simulate(means, 0.1, draw).winner for _ in range(20)]
    assert winners == ["a"] * 20


# --- contenders

RANKED = ("t3", "t0", "t4", "t1", "t2")


@pytest.mark.parametrize(
    ("tied", "limit", "budget", "seed_sd", "expected"),
    [
        ((), 4, 16, 0.02, "t3"),  # a stated sd tells it apart from all others
        (("t0", "t1"), 4, 16, 0.02, "t3 t0 t1"),
        (RANKED, 4, 16, 0.02, "t3 t0 t4 t1"),
        (RANKED, 2, 16, 0.02, "t3 t0"),
        ((), 4, 16, None, "t3 t0 t4 t1"),
        (RANKED, 4, 11, None, "t3 t0 t4"),  # rather three rounds of three
        (RANKED, 4, 8, None, "t3 t0"),
        (RANKED, 4, 4, None, "t3 t0"),
        (RANKED, 4, 1, None, "t3 t0"),
    ],
)
def test_who_contends(tied, limit, budget, seed_sd, expected) -> None:
    assert choose_contenders(RANKED, set(tied), limit, budget, seed_sd) == tuple(expected.split())


@pytest.mark.parametrize(
    ("peak_lrs", "limit", "expected"),
    [
        (None, 2, "t3 t0"),  # the peak LR is not searched
        ((1e-3, 1.1e-3, 1.3e-3, 2e-3, 3e-3), 2, "t3 t1"),  # 0.04, 0.11, 0.30 decades
        ((1e-3, 7e-4, 7.1e-4, 1e-4, 1e-5), 2, "t3 t0"),  # 0.1549 below
        ((1e-3, 7.1e-4, 2e-3, 2.5e-3, 4e-3), 4, "t3 t4 t2"),  # from every one that is chosen, not the first alone
        ((1e-3, 1e-3 * 10**0.15, 1.0, 1.0, 1.0), 2, "t3 t0"),  # just so far, whatever the rounding
        ((1e-3, 1.1e-3, 1.2e-3, 1.3e-3, 0.9e-3), 4, "t3"),  # nothing to confirm
    ],
)
def test_contenders_lie_apart(peak_lrs, limit, expected) -> None:
    known = peak_lrs and dict(zip(RANKED, peak_lrs, strict=True))
    assert choose_contenders(RANKED, set(RANKED), limit, 16, None, known) == tuple(expected.split())


@pytest.mark.parametrize("seed_sd", [None, 0.1])
def test_a_single_setting_contends_where_there_is_one_and_wins_without_replicates(seed_sd) -> None:
    assert choose_contenders([], set(), 4, 16, seed_sd) == ()
    assert choose_contenders(["t0"], set(), 4, 16, seed_sd) == ("t0",)
    single = state({}, contenders=("a",))
    assert plan_round(single) == []
    assert (verdict(single).ended, verdict(single).winner) == ("separated", "a")
