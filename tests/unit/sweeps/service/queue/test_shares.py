"""Who runs next: priorities, shares, quotas and age, as a table and in simulated months."""

import random
from dataclasses import replace

import pytest
import yaml

from sweeps.service.queue.entries import ENDED, PAUSED, QUEUED, RUNNING, Entry
from sweeps.service.queue.shares import MONTH_SECONDS, Part, in_order, over_quota, runnable
from sweeps.service.runs.submission import forecast_hours
from tests.unit.sweeps.service.conftest import sent


def entry(number, user="ada", priority=0, state=QUEUED, hours=0.0, ended=0.0, forecast=None):
    return Entry(number, str(number), user, "", "", priority, forecast, state, device_seconds=3600 * hours, ended=ended)


WEEK = 7 * 86400.0


@pytest.mark.parametrize(
    ("entries", "parts", "order"),
    [
        ([entry(1), entry(2), entry(3)], {}, [1, 2, 3]),
        ([entry(1), entry(2, priority=1)], {}, [2, 1]),
        ([entry(1), entry(2, "bob"), entry(3, state=ENDED, hours=1, ended=WEEK)], {}, [2, 1]),
        # A week later the hour counts half.
        ([entry(1), entry(2, "bob"), entry(3, state=ENDED, hours=1), entry(4, "bob", state=ENDED, hours=0.6,
          ended=WEEK)], {}, [1, 2]),
        ([entry(1), entry(2, "bob"), entry(3, state=ENDED, hours=1, ended=WEEK),
          entry(4, "bob", state=ENDED, hours=0.6, ended=WEEK)], {"ada": Part(2.0)}, [1, 2]),
        # An end in the future, by a clock that was set back since, counts as now.
        ([entry(1), entry(2, "bob"), entry(3, state=ENDED, hours=1, ended=9 * WEEK),
          entry(4, "bob", state=ENDED, hours=1.1, ended=WEEK)], {}, [1, 2]),
        ([entry(1, state=PAUSED), entry(2, state=RUNNING)], {}, []),
    ],
)  # fmt: skip
def test_priority_then_share_then_age(entries, parts, order):
    assert [one.number for one in in_order({one.name: one for one in entries}, parts, WEEK)] == order


DAY = 86400.0


def simulated(parts, days, seed, lengths=(0.5, 6.0)):
    """A machine that is never idle: each user always has two sweeps queued. (end, user, hours) of each that ended."""
    rng, entries, now, number, ran = random.Random(seed), {}, 1e9, 0, []
    while now < 1e9 + days * DAY:
        for user in parts:
            while sum(one.user == user and one.state == QUEUED for one in entries.values()) < 2:
                number += 1
                hours = rng.uniform(*lengths)
                entries[str(number)] = entry(number, user, forecast=hours)
        waiting = runnable(entries, parts, now)
        if not waiting:  # quotas are full
            now += 3600
            continue
        one = waiting[0]
        now += 3600 * one.forecast_hours
        entries[one.name] = replace(one, state=ENDED, device_seconds=3600 * one.forecast_hours, ended=now)
        ran.append((now, one.user, one.forecast_hours))
    return ran


def used(ran, user, begin=0.0, end=1e12):
    return sum(hours for ended, one, hours in ran if one == user and begin <= ended < end)


# A user is given some half a sweep too much, so shares hold for sweeps that are short against a week.
@pytest.mark.parametrize("shares", [(1, 1), (1, 2, 3), (1, 1, 8)])
@pytest.mark.parametrize("seed", [1, 2])
def test_over_time_each_user_gets_the_share_that_is_due(shares, seed):
    parts = {f"u{k}": Part(float(share)) for k, share in enumerate(shares)}
    ran = simulated(parts, 42, seed)
    total = sum(hours for _, _, hours in ran)
    for user, part in parts.items():
        assert used(ran, user) / total == pytest.approx(part.share / sum(shares), rel=0.1)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_quota_holds_in_every_30_days_and_the_others_get_the_rest(seed):
    parts = {"capped": Part(1.0, 60.0), "free": Part(1.0)}
    ran = simulated(parts, 90, seed)
    windows = [used(ran, "capped", ended - MONTH_SECONDS + 1, ended + 1) for ended, *_ in ran]
    assert max(windows) <= 60.0
    assert used(ran, "capped") > 0.8 * 60 * 3
    assert used(ran, "free") + used(ran, "capped") > 0.98 * 90 * 24


def test_who_was_away_for_long_starves_nobody():
    # A week after a month of ada alone, bob has had most of the machine, but ada's share came back.
    entries = {"0": entry(0, state=ENDED, hours=24 * 30, ended=30 * DAY)}
    now, given = 30 * DAY, {"ada": 0.0, "bob": 0.0}
    for number in range(1, 400):
        waits = {**entries, "a": entry(10_000, "ada"), "b": entry(10_001, "bob")}
        user = in_order(waits, {}, now)[0].user
        now += 3600
        given[user] += 1
        entries[str(number)] = entry(number, user, state=ENDED, hours=1, ended=now)
    assert given["ada"] > 0
    assert given["bob"] > given["ada"]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([], None),
        ([entry(1, state=ENDED, hours=8, ended=1 * DAY)], None),
        ([entry(1, state=ENDED, hours=9, ended=1 * DAY)],
         "ada's quota: 9 of 10 device-hours in 30 days, this one needs 2; free on 1970-02-01 00:00 UTC"),
        ([entry(1, "bob", state=ENDED, hours=90, ended=1 * DAY)], None),
        ([entry(1, state=ENDED, hours=90, ended=-30 * DAY)], None),  # more than 30 days ago
        ([entry(1, state=ENDED, hours=10, ended=9 * DAY)],
         "ada's quota: 10 of 10 device-hours in 30 days, this one needs 2; free on 1970-02-09 00:00 UTC"),
        ([entry(1, state=RUNNING, forecast=9.0)], "ada's quota: 9 of 10 device-hours in 30 days, this one needs 2"),
        # A resumed sweep counts what it has cost and what is left of its forecast, not both in full.
        ([entry(1, state=RUNNING, forecast=8.0, hours=6, ended=1 * DAY)], None),
        ([entry(1, state=ENDED, hours=9, ended=9 * DAY)],  # ended in the future, by a clock that was set back since
         "ada's quota: 9 of 10 device-hours in 30 days, this one needs 2; free on 1970-02-09 00:00 UTC"),
        ([entry(1, state=QUEUED, forecast=9.0), entry(2, state=PAUSED, forecast=9.0)], None),
    ],
)  # fmt: skip
def test_what_a_quota_holds_and_what_the_user_is_told(entries, why):
    own = entry(99, forecast=2.0)
    everything = {one.name: one for one in [*entries, own]}
    assert over_quota(own, everything, {"ada": Part(1.0, 10.0)}, 2 * DAY) == why
    assert over_quota(own, everything, {}, 2 * DAY) is None


@pytest.mark.parametrize(
    ("hours", "cap", "forecast"),
    [
        ({"this machine's CPUs": 3.0, "one A100": 9.0}, None, 3.0),
        ({"one A100": 3.0, "one H100": 1.0}, None, 3.0),
        ({"one A100": 3.0}, 2.0, 2.0),
        ({}, 2.0, 2.0),
        ({}, None, None),
    ],
)
def test_a_sweeps_forecast_is_this_machines_within_its_cap(hours, cap, forecast):
    assert forecast_hours({"device_hours": hours}, cap) == forecast


@pytest.fixture
def ten_hours(service):
    """Ada's quota."""
    path = service.folder / "users.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["users"]["ada"]["hours_a_month"] = 10.0
    path.write_text(yaml.safe_dump(tree))


@pytest.mark.usefixtures("ten_hours")
def test_a_sweep_that_no_month_can_hold_is_refused_and_the_queue_says_what_a_quota_holds_back(service):
    ada, bob = service.client("ada"), service.client("bob")
    assert "for the forecast is unknown" in ada.post("/sweeps", json=sent("one")).text
    assert "within your quota of 10" in ada.post("/sweeps", json=sent("one", "budget.device_hours=11")).text
    assert service.queue.entries == {}
    for name in ("one", "two"):
        assert ada.post("/sweeps", json=sent(name, "budget.device_hours=6")).status_code == 201
    assert bob.post("/sweeps", json=sent("three")).status_code == 201
    service.queue.record("starting", "one", attempt=1, before=0)
    assert {one["id"]: one["waits_for"] for one in bob.get("/queue").json()} == {
        "one": None,
        "two": "ada's quota: 6 of 10 device-hours in 30 days, this one needs 6",
        "three": "the end of one",
    }


@pytest.mark.usefixtures("ten_hours")
def test_with_a_scheduler_no_quota_of_the_service_counts(service):
    service.queue.scheduler = "Slurm"
    ada = service.client("ada")
    for name, *overrides in (("one",), ("two", "budget.device_hours=11")):
        assert ada.post("/sweeps", json=sent(name, *overrides)).status_code == 201
    rows = ada.get("/queue").json()
    assert [one["waits_for"] for one in rows] == ["its handing over to Slurm"] * 2


@pytest.mark.parametrize(("quota", "used_hours", "waits"), [(0.0, 0.0, True), (5.0, 5.0, True), (5.0, 4.0, False)])
def test_a_sweep_of_unknown_need_begins_only_where_something_is_left(quota, used_hours, waits):
    entries = {"1": entry(1, state=ENDED, hours=used_hours, ended=DAY)}
    assert (over_quota(entry(2), entries, {"ada": Part(1.0, quota)}, 2 * DAY) is not None) is waits
