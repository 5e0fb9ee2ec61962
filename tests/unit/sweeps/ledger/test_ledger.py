import json
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.ledger.ledger import Ledger, seal, unseal
from trainables.errors import UserError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=4))
def test_a_sealed_line_is_one_json_line_that_unseals_to_the_event(event):
    line = seal(event)
    assert line.count("\n") == 1
    assert unseal(line.encode()) == event
    assert json.loads(line).items() >= {k: v for k, v in event.items() if k != "crc32"}.items()


@given(st.data())
def test_any_changed_byte_is_noticed(data):
    line = bytearray(seal({"event": "x", "loss": 1.25, "ids": ["a", "b"]}).encode())
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))
    assert unseal(bytes(line)) is None


def kinds(ledger):
    return [event["event"] for event in ledger.read()[0]]


def test_a_new_driver_gets_a_higher_epoch_and_ends_one_that_began_before_it_and_whose_lock_failed(tmp_path):
    assert Ledger.of_new_driver(tmp_path).epoch == 1
    old = Ledger.of_new_driver(tmp_path)
    old.append("sweep_started")
    old.append("baseline")
    new = Ledger.of_new_driver(tmp_path)
    assert (old.epoch, new.epoch) == (1, 2)
    new.append("sweep_started")
    with pytest.raises(UserError, match=f"{tmp_path}: must have one driver at a time, got driver 2, which began after"):
        old.append("trial_ended")
    new.append("trial_ended")
    assert kinds(new) == ["sweep_started", "baseline", "sweep_started", "trial_ended"]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 2e9), min_size=2, max_size=6))
def test_the_order_of_events_is_that_of_the_file_whatever_the_clock_says(tmp_path_factory, clock):
    folder = tmp_path_factory.mktemp("ledger")
    with mock.patch("sweeps.ledger.ledger.time.time", side_effect=clock):
        for number in range(len(clock)):
            Ledger.of_new_driver(folder).append(str(number))
    events, torn = Ledger(folder).read()
    assert torn == []
    assert [(event["event"], event["driver_epoch"]) for event in events] == [
        (str(number), number + 1) for number in range(len(clock))
    ]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 610))
def test_a_ledger_cut_at_any_byte_tells_what_was_written_before_and_nothing_else(tmp_path_factory, cut):
    """And what is appended later counts, whatever the cut."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger"), epoch=1)
    for number in range(4):
        ledger.append("trial_ended", trial={"trial_id": f"t{number}", "error": 'a "}\n, '}, crc32="00000000")
    whole, before = ledger.path.read_bytes(), ledger.read()[0]
    ledger.path.write_bytes(whole[:cut])
    lines = whole[:cut].count(b"\n")
    whole_last = cut < len(whole) and whole[cut : cut + 1] == b"\n"  # all of it but its newline
    kept = lines + whole_last
    assert ledger.read()[0] == before[:kept]
    after = Ledger.of_new_driver(ledger.path.parent)
    after.append("sweep_started")
    events, torn = after.read()
    assert [event["event"] for event in events] == ["trial_ended"] * kept + ["sweep_started"]
    assert torn == ([] if cut == 0 or kept > lines or whole[:cut].endswith(b"\n") else [lines + 1])


def test_what_an_older_driver_wrote_after_a_newer_one_began_does_not_count_and_each_fault_is_named(tmp_path):
    new = Ledger(tmp_path, epoch=2)
    lines = [("one", 1), ("two", 2), ("late", 1), ("three", 2)]
    new.path.write_text("".join(seal({"event": name, "driver_epoch": epoch}) for name, epoch in lines))
    assert kinds(new) == ["one", "two", "three"]
    assert new.read()[1] == [3]
    assert new.faults() == ["ledger.jsonl line 3 was written by driver 1 after driver 2 had begun"]
    first, second, third = (seal({"event": name}).encode() for name in ("one", "two", "three"))
    new.path.write_bytes(first + second.replace(b"two", b"tow") + third[:20])
    assert kinds(new) == ["one"]
    assert new.faults() == [
        "ledger.jsonl line 2 is not what was written (its checksum differs)",
        "ledger.jsonl line 3 was cut off",
    ]


def test_events_of_a_ledger_without_epochs_count(tmp_path):
    (tmp_path / "ledger.jsonl").write_text(seal({"event": "old"}))
    ledger = Ledger.of_new_driver(tmp_path)
    ledger.append("new")
    assert kinds(ledger) == ["old", "new"]
    assert ledger.epoch == 1


@given(st.lists(st.integers(1, 4), max_size=12))
def test_an_event_counts_exactly_where_no_newer_driver_wrote_before_it(tmp_path_factory, epochs):
    folder = tmp_path_factory.mktemp("ledger")
    (folder / "ledger.jsonl").write_text(
        "".join(seal({"event": str(n), "driver_epoch": e}) for n, e in enumerate(epochs))
    )
    counted = [str(n) for n, epoch in enumerate(epochs) if all(before <= epoch for before in epochs[:n])]
    assert kinds(Ledger(folder)) == counted
