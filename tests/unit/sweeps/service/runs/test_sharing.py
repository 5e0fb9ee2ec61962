"""One cluster for several sweeps: who gets how many lanes, who may begin, and what each got over time."""

import json
import math
import random

import pytest

from sweeps.lanes.lane_share import LaneNeeds, LaneShare
from sweeps.service.queue.entries import RUNNING, Entry
from sweeps.service.queue.shares import Part
from sweeps.service.runs.sharing import SWEEPS_AT_ONCE, Broker, has_room, targets


def needs(*pairs):
    return {str(number): LaneNeeds(room, needed) for number, (room, needed) in enumerate(pairs)}


@pytest.mark.parametrize(
    ("asked", "weights", "given"),
    [
        ([(8, 8)], [1], [8]),
        ([(8, 8), (8, 8)], [1, 1], [4, 4]),
        ([(2, 2), (2, 2)], [1, 1], [1, 1]),
        ([(8, 8), (8, 8)], [3, 1], [6, 2]),
        ([(3, 3), (3, 3)], [1, 1], [2, 1]),  # the older one gets what is left over
        # The tail of a sweep: what it does not need goes to the other.
        ([(8, 1), (8, 8)], [1, 1], [1, 7]),
        ([(8, 2), (8, 3)], [1, 1], [2, 3]),
        # Lanes of two devices beside lanes of one: 4 of them fill the cluster of 8.
        ([(4, 4), (8, 8)], [1, 1], [2, 4]),
        ([(4, 4), (8, 3)], [1, 1], [2, 3]),
        # More sweeps than lanes, since nodes went: each keeps its last one, which waits for a node.
        ([(1, 1), (1, 1)], [1, 1], [1, 1]),
        ([], [], []),
    ],
)
def test_lanes_go_to_the_sweep_with_the_smallest_part_over_its_weight(asked, weights, given):
    names = [str(number) for number in range(len(asked))]
    found = targets(needs(*asked), dict(zip(names, weights, strict=True)))
    assert [found[name] for name in names] == given


@pytest.mark.parametrize(
    ("running", "room"),
    [
        ([], True),
        ([LaneNeeds(2, 2)], True),
        ([LaneNeeds(1, 1)], False),
        ([LaneNeeds(2, 2)] * 2, False),
        ([LaneNeeds(2, 1), None], False),  # what the second needs is not known yet
        ([LaneNeeds(2, 1), LaneNeeds(8, 8)], False),  # the next one may want lanes as large as the first's
        ([LaneNeeds(99, 9)] * (SWEEPS_AT_ONCE - 1), True),
        ([LaneNeeds(99, 9)] * SWEEPS_AT_ONCE, False),
    ],
)
def test_a_sweep_begins_where_every_other_keeps_a_lane(running, room):
    assert has_room(running) is room


def entry(number, user="ada", state=RUNNING):
    return Entry(number, f"s{number}", user, "", f"s{number}-{number}", state=state, attempt=1)


def test_targets_are_written_by_users_shares_and_a_sweep_that_is_planned_takes_none(tmp_path):
    broker, sweeps = Broker(tmp_path), [entry(1), entry(2, "bob"), entry(3, "bob")]
    for one in sweeps:
        assert broker.arguments(one) == ["--lane-share", str(tmp_path / "lanes" / f"{one.number}-1")]
    shares = [LaneShare(tmp_path / "lanes" / f"{one.number}-1") for one in sweeps]
    shares[0].tell(LaneNeeds(8, 8))
    broker.share(sweeps, {})
    assert [share.target for share in shares] == [8, 1, 1]
    assert not broker.has_room(sweeps)
    for share in shares[1:]:
        share.tell(LaneNeeds(8, 8))
    broker.share(sweeps, {"ada": Part(1.0), "bob": Part(1.0)})
    assert [share.target for share in shares] == [4, 2, 2]
    assert broker.has_room(sweeps)
    later = Broker(tmp_path)  # a service that starts again goes by the same files
    later.share(sweeps[1:], {"bob": Part(2.0)})
    assert [share.target for share in shares] == [4, 4, 4]
    file = tmp_path / "lanes" / "3-1.target.json"
    assert json.loads(file.read_text()) == {"lanes": 4}
    written = file.stat().st_ino
    later.share(sweeps[1:], {"bob": Part(2.0)})
    assert file.stat().st_ino == written  # what stands there is not written again


@pytest.mark.parametrize("damage", ["", "{", '{"lanes": 0}', '{"lanes": null}', "[]"])
def test_a_damaged_target_is_written_anew(tmp_path, damage):
    broker, one = Broker(tmp_path), entry(1)
    broker.arguments(one)
    file = tmp_path / "lanes" / "1-1.target.json"
    file.write_text(damage)
    broker.share([one], {})
    assert json.loads(file.read_text()) == {"lanes": 1}


@pytest.mark.parametrize(
    "shares", [{"ada": 1.0, "bob": 1.0}, {"ada": 3.0, "bob": 1.0}, {"ada": 2.0, "bob": 1.0, "eve": 1.0}]
)
def test_lane_hours_over_time_are_within_a_tenth_of_the_shares(shares):
    """Each user always has a sweep that runs; sweeps end, and their tails give lanes back."""
    rng, room = random.Random(1), 16
    left = dict.fromkeys(shares, 0.0)  # trials, an hour each
    held = dict.fromkeys(shares, 0.0)
    for _ in range(5000):
        for user in left:
            if left[user] <= 0:
                left[user] = rng.randint(200, 400)
        asked = {user: LaneNeeds(room, max(1, math.ceil(trials))) for user, trials in left.items()}
        for user, lanes in targets(asked, shares).items():
            held[user] += lanes
            left[user] -= lanes
    whole = sum(held.values())
    assert whole == pytest.approx(5000 * room, rel=0.02)
    for user, share in shares.items():
        assert held[user] / whole == pytest.approx(share / sum(shares.values()), rel=0.1)
