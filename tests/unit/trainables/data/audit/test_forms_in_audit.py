"""The audit of rows of every form: copies, leaks, conflicts, what was read and what was not."""

import pytest

from tests.unit.trainables.data.audit.helpers import audited, sample
from trainables.data.independence.texts import AREA_LIMITS, group_of, sample_texts
from trainables.data.samples import Sample

TEXT = "The heron stands in the shallows of the Humber and waits, still as a post, for the tide to bring it fish."
TOOL = {"type": "function", "function": {"name": "tide", "parameters": {}}}
OTHER_TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def call(port):
    turn = {"role": "assistant", "content": None, "tool_calls": [{"name": "tide", "arguments": {"port": port}}]}
    return {"messages": [{"role": "user", "content": "When is high water at the port I named?"}, turn]}


def test_forms_and_unread_keys_are_counted():
    lines = [sample("a") | {"area": "x"}, sample("b") | {"area": "x", "input": "i"}, {"text": TEXT, "url": "u"}]
    found = audited(lines)
    assert found.train.forms == {"prompt_response": 2, "text": 1}
    assert found.train.unread_keys == {"area": 2, "input": 1, "url": 1}
    assert found.to_json()["train"]["forms"] == found.train.forms


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [
        ({"text": TEXT}, {"text": TEXT}, "exact_duplicate"),
        ({"text": TEXT}, {"text": TEXT.upper()}, "near_duplicate"),
        ({"text": TEXT}, {"text": TEXT.replace("heron", "crane")}, None),
        (call("Hull"), call("Hull"), "exact_duplicate"),
        (call("Hull"), call("Goole"), "conflicting_responses"),
        (call("Hull") | {"tools": [TOOL]}, call("Hull") | {"tools": [OTHER_TOOL]}, None),
        (
            {"conversations": [{"from": "human", "value": TEXT}, {"from": "gpt", "value": "r"}]},
            {"messages": [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "r"}]},
            "exact_duplicate",
        ),
    ],
)
def test_copies_are_found_in_every_form(first, second, rule):
    hits = audited([first, second]).train.hits
    assert set(hits) == ({rule} if rule else set())


@pytest.mark.parametrize(
    ("line", "item", "leaks"),
    [
        ({"text": f"A page.\n{TEXT}\nAnother."}, {"text": TEXT}, True),
        ({"text": TEXT}, {"text": TEXT}, True),
        ({"text": "Quite another page about lynxes."}, {"text": TEXT}, False),
        ({"text": f"Q: {TEXT}\nA: fish"}, sample("x", TEXT, "fish"), True),
        ({"instruction": "What waits?", "input": TEXT, "output": "a heron"}, sample("x", f"What waits?\n{TEXT}"), True),
    ],
)
def test_held_out_items_are_found_in_every_form(line, item, leaks):
    assert ("leakage" in audited([line], {"area": [item]}).train.hits) == leaks


def test_each_plain_text_is_a_context_of_its_own():
    texts = [Sample(str(i), [], {}, i, text=f"{TEXT} {i}") for i in range(3)]
    assert len({group_of(text) for text in texts}) == 3
    assert [(text.context[-1], text.question, text.response) for text in sample_texts(texts, AREA_LIMITS, 0)] == [
        (str(i), "", "") for i in range(3)
    ]
