import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.ledger import Ledger, seal, unseal

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


@given(st.data())
def test_any_changed_byte_is_noticed(data):
    line = bytearray(seal({"event": "x", "loss": 1.25, "ids": ["a", "b"]}).encode())
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))
    assert unseal(bytes(line)) is None


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_torn_line_is_reported_and_the_next_one_stands_alone(tmp_path, cut):
    ledger = Ledger(tmp_path)
    ledger.append("one")
    ledger.append("two", value=2)
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:-cut])
    ledger.append("three")
    events, torn = ledger.read()
    # Without its newline alone, the second line is still whole.
    assert [event["event"] for event in events] == (["one", "two", "three"] if cut == 1 else ["one", "three"])
    assert torn == ([] if cut == 1 else [2])


def test_lines_are_json(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append("trial_ended", trial={"trial_id": "t0001"})
    assert json.loads(ledger.path.read_text())["trial"] == {"trial_id": "t0001"}
