"""The ledger in an object store: whatever two drivers do at the same time, it reads as a ledger in a file would."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.ledger.ledger import Ledger
from sweeps.ledger.ledger_in_store import SupersededError, numbers
from tests.object_store_helpers import in_memory
from trainables.errors import UserError
from trainables.storage.object_store import Remote, StoreError
from trainables.storage.working_copy import join_ledger


class Interleaved:
    """A remote between whose requests something else happens, as `turns` say."""

    def __init__(self, remote, turns, other):
        self._remote, self._turns, self._other = remote, turns, other
        self.url = remote.url

    def __getattr__(self, name):
        ask = getattr(self._remote, name)

        def then(*arguments):
            while self._turns and self._turns.pop(0):
                self._other()
            return ask(*arguments)

        return then


def kinds(folder):
    ledger = Ledger(folder)
    assert ledger.faults() == []
    return [event["name"] for event in ledger.read()[0] if event["event"] == "step"]


@settings(deadline=None, max_examples=60)
@given(before=st.integers(0, 4), turns=st.lists(st.booleans(), max_size=30), after=st.lists(st.booleans(), max_size=12))
def test_any_interleaving_reads_as_a_ledger_in_a_file(tmp_path_factory, before, turns, after):
    place, remote = tmp_path_factory.mktemp("drivers"), in_memory()
    old = Ledger.of_new_driver(place / "old", remote)
    done, refused = [], []

    def old_writes():
        name = f"old-{len(done) + len(refused)}"
        try:
            old.append("step", name=name)
            done.append(name)
        except SupersededError:
            refused.append(name)

    (place / "old").mkdir(exist_ok=True)
    (place / "new").mkdir()
    for _ in range(before):
        old_writes()
    new = Ledger.of_new_driver(place / "new", Interleaved(remote, list(turns), old_writes))
    assert new.epoch > old.epoch
    written = []
    for is_old in after:
        if is_old:
            old_writes()
        else:
            written.append(f"new-{len(written)}")
            new.append("step", name=written[-1])
    assert not (after.count(True) and not refused), "a driver that was replaced learns it at its next event"

    join_ledger(remote, place / "read" / "ledger.jsonl")
    in_a_file = place / "file"
    in_a_file.mkdir()
    for name in done:
        Ledger(in_a_file, epoch=old.epoch).append("step", name=name)
    for name in written:
        Ledger(in_a_file, epoch=new.epoch).append("step", name=name)
    if written:
        for name in refused:
            with pytest.raises(UserError, match="must have one driver at a time"):
                Ledger(in_a_file, epoch=old.epoch).append("step", name=name)
    expected = [event["name"] for event in Ledger(in_a_file).read()[0]]
    assert kinds(place / "read") == kinds(place / "new") == expected == [*done, *written]


def test_drivers_one_after_another_against_a_real_server(store_url, tmp_path):
    remote = Remote(store_url)
    for number in (1, 2, 3):
        ledger = Ledger.of_new_driver(tmp_path / str(number), remote)
        assert ledger.epoch == number
        (tmp_path / str(number)).mkdir(exist_ok=True)
        ledger.append("step", name=f"by-{number}")
    assert kinds(tmp_path / "3") == ["by-1", "by-2", "by-3"]
    assert numbers(remote) == {1: 2, 2: 2, 3: 1}, "each event an object, and one that ends a driver's"


def test_a_driver_that_was_replaced_ends_in_one_line(tmp_path):
    remote = in_memory()
    old = Ledger.of_new_driver(tmp_path, remote)
    Ledger.of_new_driver(tmp_path / "new", remote)
    with pytest.raises(SupersededError, match="must have one driver at a time, got a newer driver") as caught:
        old.append("step", name="late")
    assert len(str(caught.value).splitlines()) == 1


def away(*_):
    raise StoreError("s3://bucket/memory", "must answer within 1 seconds", "nothing", "wait")


def write_in_vain(ledger, remote, monkeypatch, *names):
    """Appends events while the store is away."""
    with monkeypatch.context() as patch:
        patch.setattr(remote, "create", away)
        for name in names:
            with pytest.raises(StoreError):
                ledger.append("step", name=name)


@pytest.mark.parametrize(("before", "lost", "restarts"), [(["one"], ["two", "three"], True), ([], ["one"], False)])
def test_events_wait_for_a_store_that_is_away_and_keep_their_order(tmp_path, monkeypatch, before, lost, restarts):
    remote = in_memory()
    ledger = Ledger.of_new_driver(tmp_path, remote)
    for name in before:
        ledger.append("step", name=name)
    write_in_vain(ledger, remote, monkeypatch, *lost)
    if restarts:
        ledger = Ledger.of_new_driver(tmp_path, remote)
    ledger.append("step", name="next")
    join_ledger(remote, tmp_path / "read" / "ledger.jsonl")
    assert kinds(tmp_path / "read") == kinds(tmp_path) == [*before, *lost, "next"]


@pytest.mark.parametrize("other", ["a newer driver elsewhere", "another sweep of this name"])
def test_they_are_left_out_where_they_do_not_count(tmp_path, monkeypatch, other):
    remote = in_memory()
    ledger = Ledger.of_new_driver(tmp_path, remote)
    ledger.append("step", name="there")
    write_in_vain(ledger, remote, monkeypatch, "lost")
    if other == "another sweep of this name":
        remote.drop("ledger")
        remote.drop("drivers")
    (tmp_path / "elsewhere").mkdir()
    Ledger.of_new_driver(tmp_path / "elsewhere", remote).append("step", name="theirs")
    again = Ledger.of_new_driver(tmp_path, remote)
    again.append("step", name="next")
    assert kinds(tmp_path) == [*(["there"] if other.startswith("a newer") else []), "theirs", "next"]
