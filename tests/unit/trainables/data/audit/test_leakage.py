import pytest

from tests.unit.trainables.data.audit.helpers import TABLE, audited, sample

ASKED = "What was the total amount of deferred revenue in 2019, in millions?"
ITEM = sample("h", f"{TABLE}Question: {ASKED}", "13.6")
CONTAINED = "100% of the words of a prompt, its question among them"
STOCK = "The accompanying notes are an integral part of these consolidated financial statements and should be read so. "
OTHERS = [sample(f"o{i}", f"Nothing about it, number {i} of some\n\nQuestion: and what then?", "no") for i in range(3)]


def leaks(line, *items, actions=None):
    audit = audited([*OTHERS, line], {"first": [sample("x")], "second": items or [ITEM]}, actions)
    return audit.train.hits.get("leakage")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (ITEM, "the same text"),
        (ITEM | {"id": "t", "source": "x"}, "the same text"),
        (sample("t", ITEM["prompt"].replace(" ", "  ").upper(), "13.6"), "the same text but for spaces or case"),
        (sample("t", ITEM["prompt"], "5.6"), "the same prompt with another response"),
        (sample("t", f"{ITEM['prompt']}\nAnswer: 13.6\n\nQuestion: and now?", "5"), CONTAINED),
        (sample("t", "Repeat what I say.", f"{ITEM['prompt']} 13.6"), CONTAINED),
        (sample("t", f"{TABLE}Answer in one word.\nQuestion: {ASKED} Well?", "5"), CONTAINED),
    ],
)
def test_an_item_is_found_as_it_is_and_inside_a_longer_text(line, kind):
    found = leaks(line)
    (hit,) = found.examples
    assert hit.line == 4
    assert hit.got.endswith(f", {kind}")
    assert hit.related.endswith("second.jsonl line 1 (area second)")
    assert {area: lines.tolist() for area, lines in found.areas.items()} == {"second": [4]}


@pytest.mark.parametrize(
    "line",
    [
        sample("t", f"{TABLE}Question: What were the other current liabilities in 2018, in millions?", "13.6"),
        sample("t", f"{TABLE}Question: What was the total amount of deferred revenue in 2018, in millions?", "13.6"),
        sample("t", f"Of another firm altogether, with other figures: 7 | 8 | 9\n\nQuestion: {ASKED}", "13.6"),
        sample("t", f"Question: {ASKED}", "13.6"),
        sample("t", TABLE, "13.6"),
        sample("h", "Something else under the same id?", "13.6"),
        sample("t", f"{STOCK}Cash fell to 12.\n\nQuestion: What is said of the cash in these statements?", "fell"),
    ],
)
def test_a_shared_context_or_question_or_id_or_stock_phrase_is_no_leak(line):
    noted = f"{STOCK}Land rose to 17.\n\nQuestion: What is said of the notes to these statements?"
    assert leaks(line, ITEM, sample("h2", noted, "read")) is None


@pytest.mark.parametrize(
    ("prompt", "text", "leaked"),
    [
        ("Who wrote the play Hamlet?", "Who wrote the play HAMLET?", True),
        ("Who wrote the play Hamlet?", "Tell me: who wrote the play Hamlet? And when?", False),
        ("Who wrote the play that is called Hamlet?", "Say: who wrote the play that is called Hamlet? When?", True),
        ("Who wrote the play that is called Hamlet?", "Say: who wrote the play that is called Macbeth? When?", False),
    ],
)
def test_a_prompt_of_few_words_leaks_only_as_a_whole(prompt, text, leaked):
    assert (leaks(sample("t", text, "he"), sample("h", prompt, "he")) is not None) == leaked


def test_of_many_items_on_one_context_the_right_one_is_found():
    asked = [f"Question: what does the entry numbered {w} tell us about the company?" for w in "abcdefghijklmnopqrst"]
    items = [sample(f"h{i}", TABLE + question, "it") for i, question in enumerate(asked)]
    found = leaks(sample("t", f"{TABLE}{asked[11]} Say it.", "it"), *items)
    assert found.examples[0].related.endswith("line 12 (area second)")
    assert leaks(sample("t", f"{TABLE}Question: what does the entry numbered z tell us of it?", "it"), *items) is None


def test_a_line_can_be_a_copy_and_a_leak_into_two_areas():
    audit = audited([ITEM, *OTHERS, ITEM | {"id": "t"}], {"one": [ITEM], "two": [sample("x"), ITEM]})
    found = audit.train.hits["leakage"]
    assert {area: lines.tolist() for area, lines in found.areas.items()} == {"one": [1, 5], "two": [1, 5]}
    assert found.lines.tolist() == [1, 5]
    assert audit.train.hits["exact_duplicate"].lines.tolist() == [5]


def test_an_item_of_two_areas_is_an_overlap_of_the_later_one():
    audit = audited(OTHERS, {"one": [ITEM], "two": [sample("x"), ITEM]})
    assert audit.areas["one"].hits == {}
    found = audit.areas["two"].hits["area_overlap"]
    assert found.lines.tolist() == [2]
    assert found.areas["one"].tolist() == [2]
    assert found.examples[0].related.endswith("one.jsonl line 1 (area one)")
    assert audit.failures() == []


def test_a_leak_can_be_dropped_or_kept():
    for action, kept in (("fail", 4), ("keep", 4), ("drop", 3)):
        audit = audited([*OTHERS, ITEM], {"area": [ITEM]}, {"leakage": action})
        assert audit.train.samples_kept == kept
        assert len(audit.failures()) == (action == "fail")
