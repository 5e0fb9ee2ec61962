import numpy as np
import pytest

from tests.unit.trainables.data.audit.helpers import audited, sample
from trainables.config.data_sections import FieldNames
from trainables.data.audit.outliers import markers, unusual_lengths
from trainables.data.json_lines import Record
from trainables.data.samples import parse_sample

COMMON, RARE = "as 97.6% have", "as few others have"
SUBJECTS = [f"{a} {b}" for a in ("cash", "land", "tax", "rent", "wages", "bonds", "tools") for b in "abcdefghijk"]


def chat(name, *messages):
    return {"id": name, "messages": [{"role": role, "content": text} for role, text in messages]}


def found(shape, odd, count=40):
    lines = [shape(str(i), SUBJECTS[i]) for i in range(count)]
    hits = audited([*lines[:7], odd, *lines[7:]]).train.hits.get("format_departure")
    return {} if hits is None else {hit.line: hit.got for hit in hits.examples}


def question(name, subject):
    return sample(name, f"A note on {subject}.\n\nQuestion: what of {subject}?\nAnswer:", subject)


def turns(name, subject):
    return chat(name, ("system", "Be brief."), ("user", f"what of {subject}?"), ("assistant", subject))


@pytest.mark.parametrize(
    ("shape", "odd", "reason"),
    [
        (question, ("What of all this?\nAnswer:", "all"), f"not a line 'Question:' in the prompt, {COMMON}"),
        (question, ("A note.\n\nQuestion: what of it?", "it"), f"not a prompt that ends 'Answer:', {COMMON}"),
        (question, ("A note.\n\nQuestion: what?\n[INST]\nAnswer:", "it"), f"'[INST]' in the prompt, {RARE}"),
        (question, ("A note.\n\nQuestion: what?\nAnswer:", "it</s>"), f"'</s>' in the response, {RARE}"),
        (question, ("<human>: A note.\n\nQuestion: what?\nAnswer:", "it"), f"'<human>:' in the prompt, {RARE}"),
        (turns, chat("x", ("user", "what?"), ("assistant", "it")), f"not roles system, user, assistant, {COMMON}"),
        (turns, chat("x", ("system", "Hm."), ("user", "a"), ("tool", "b"), ("assistant", "it")),
         f"not roles system, user, assistant, {COMMON}"),
    ],
)  # fmt: skip
def test_a_sample_that_departs_from_the_common_format_is_named(shape, odd, reason):
    reasons = found(shape, odd if isinstance(odd, dict) else sample("x", *odd))
    assert list(reasons) == [8]
    assert reason in reasons[8].split("; ")


def mixed(name, subject):
    return question(name, subject) if int(name) % 4 else sample(name, f"[INST] what of {subject}? [/INST]", subject)


MORE_TURNS = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]


@pytest.mark.parametrize(
    ("shape", "odd", "count"),
    [
        (turns, chat("x", *MORE_TURNS), 40),
        (question, sample("x", "Total: 3\nNote: it\n\nQuestion: what of it?\nAnswer:", "it"), 40),
        (question, sample("x", "What?", "all"), 18),
        (mixed, sample("x", "What of all this?", "all"), 40),
    ],
    ids=["more turns of the same kind", "labels that belong to a text", "few samples", "a mixture of two formats"],
)
def test_what_is_no_departure_from_a_common_format(shape, odd, count):
    assert found(shape, odd, count) == {}


def test_markers_are_where_they_are_found():
    line = {"id": "a", "prompt": "Human: x\n  Note: y\nAnswer:", "response": "Reason: z <|im_end|>"}
    one = parse_sample("f", Record(1, line), FieldNames())
    assert {marker.description for marker in markers(one)} == {
        "roles user, assistant",
        "'Human:' in the prompt",
        "a line 'Human:' in the prompt",
        "a line 'Note:' in the prompt",
        "a line 'Answer:' in the prompt",
        "a prompt that ends 'Answer:'",
        "a response that begins 'Reason:'",
        "'<|im_end|>' in the response",
    }


@pytest.mark.parametrize(
    ("lengths", "odd", "unusual"),
    [
        ([10] * 60, 80, False),  # eight times the median, no more
        ([10] * 60, 81, True),
        ([100] * 60, 12, True),
        ([100] * 60, 13, False),
        (list(range(1, 61)), 400, False),  # spread widely, so far is not odd
        ([10] * 48, 1000, False),  # too few to say what is usual
        ([10, 12] * 30, 1000, True),
    ],
)
def test_only_a_clear_excess_is_unusual(lengths, odd, unusual):
    found, median = unusual_lengths(np.array([odd, *lengths]))
    assert found.tolist() == ([0] if unusual else [])
    if unusual:
        assert median == pytest.approx(np.median(lengths), rel=0.2)


def test_lengths_of_answers_with_a_long_tail_are_usual():
    draws = np.random.default_rng(0).lognormal(3, 0.8, 20_000).round().clip(1)
    found, _ = unusual_lengths(draws)
    assert len(found) < 20
