import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trainables.data.independence.helpers import needs_shared, shared, text, texts
from trainables.data.independence.question_templates import TrainTemplates, is_specific, question_template
from trainables.data.independence.shared_sources import RUN_WORDS, SharedSource, shared_runs, shared_sources

WORDS = [f"w{i}" for i in range(60)]


def context(words, **fields):
    return text(question="what?", context=" ".join(words), **fields)


def runs(train, area):
    return shared_runs(train, {"area": area})["area"]


def test_sources_of_both_sides_with_their_counts():
    train = [text(source=source) for source in ["a", "a", "b", None]]
    area = [text(source=source) for source in ["b", "a", "a", None, "c", "a"]]
    assert shared_sources(train, area) == [SharedSource("a", 3, 2), SharedSource("b", 1, 1)]
    assert shared_sources([text()], [text()]) == []


@pytest.mark.parametrize(("length", "items"), [(RUN_WORDS - 1, 0), (RUN_WORDS, 1), (RUN_WORDS + 7, 1)])
def test_thirteen_words_in_a_row_are_a_run(length, items):
    found = runs([context(["x", *WORDS[:length], "y"])], [context(["p", *WORDS[:length], "q"])])
    assert found.items == found.share == items
    assert found.longest == (length if items else 0)


def test_case_punctuation_and_white_space_do_not_count():
    words = WORDS[:RUN_WORDS]
    found = runs([context([word.upper() + "," for word in words])], [context([*words[:5], "|\n", *words[5:]])])
    assert found.items == 1
    assert found.examples == [{"id": "x", "run": " ".join(words)}]


def test_longest_stretch_of_several_and_examples_longest_first():
    train = [context(WORDS[:20]), context(WORDS[30:50])]
    area = [
        context([*WORDS[:15], "gap", *WORDS[30:48]], name="two stretches"),
        context(WORDS[:20], name="one"),
        context(["other"] * 40, name="none"),
    ]
    found = runs(train, area)
    assert (found.items, found.share, found.longest) == (2, pytest.approx(2 / 3), 20)
    assert [example["id"] for example in found.examples] == ["one", "two stretches"]
    assert found.examples[1]["run"] == " ".join(WORDS[30:48])


def test_a_prompt_without_context_is_compared_whole_and_else_without_its_question():
    question = " ".join(WORDS[:20])
    assert runs([text(question=question)], [text(question=question)]).longest == 20
    assert runs([text(question, context="one table")], [text(question, context="another table")]).items == 0


def stretch(words, contexts):
    """Longest stretch of words covered by runs that a context has, the slow way."""
    covered = [
        any(words[i : i + RUN_WORDS] == other[j : j + RUN_WORDS] for other in contexts for j in range(len(other) - 12))
        for i in range(len(words) - RUN_WORDS + 1)
    ]
    best = length = 0
    for hit in covered:
        length = length + 1 if hit else 0
        best = max(best, length)
    return best + RUN_WORDS - 1 if best else 0


@given(
    st.lists(st.lists(st.sampled_from("ab"), max_size=40), max_size=3),
    st.lists(st.sampled_from("ab"), max_size=40),
)
def test_runs_are_those_of_the_slow_way(contexts, words):
    train = [context(other or ["z"]) for other in contexts]
    assert runs(train, [context(words or ["z"])]).longest == stretch(words, contexts)


@pytest.mark.parametrize(
    ("question", "about", "found"),
    [
        ("What was Acme's net income in 2019?", "Net income | 5", "what was @ in #"),
        ("What was the total in 2019?", "", "what was the total in #"),
        ("What was the change from $5.3 million to 12%?", "", "what was the change from # million to #"),
        ("How much did New York and Texas pay?", "", "how much did @ and @ pay"),
        ("Which is larger, 5 6 or 7?", "", "which is larger # or #"),
        ("What does 'net income' mean?", "the net income of", "what does @ mean"),
        ("Is it in a?", "it in a", "is it in a"),
        ("What is cash?", "cash", "what is cash"),
        ("", "", None),
        ("? !", "", None),
        ("word " * 60, "", "word " * 59 + "word"),
        ("word " * 61, "", None),
        ("w" * 1001, "", None),
    ],
)
def test_template(question, about, found):
    assert question_template(question, about) == found


def test_a_question_of_dots_takes_no_time():
    start = time.process_time()
    assert question_template("." * 1_000_000 + "a", "") is None
    assert time.process_time() - start < 1


@given(st.text(), st.text())
def test_no_text_breaks_a_template(question, about):
    found = question_template(question, about)
    assert found is None or found == found.strip() != ""


def test_short_templates_are_not_specific():
    assert not is_specific("what was the @ in #")  # four words and two masks
    assert is_specific("what was the change in @")


def test_overlap_counts_items_examples_and_what_is_natural():
    train = [
        text("What was the change in sales from 2018?", group="a"),
        text("What was the change in sales from 2019?", group="b"),
        text("How many people work for the firm now?", group="c"),
        text("How many people work for the firm now?", group="c"),
        text("What was Cash?", group="d"),
    ]
    area = [
        text("What was the change in sales from 1999?", group="p"),
        text("What was the change in sales from 1998?", group="q"),
        text("What was Debt?", group="r"),
        text("Who signed this lease on behalf of Acme?", group="s"),
    ]
    found = TrainTemplates(train).overlap(area)
    assert (found.items, found.share, found.generic) == (2, 0.5, 1)
    assert found.within_train == pytest.approx(2 / 5)  # the firm's template occurs in one context only
    assert found.examples == [{"template": "what was the change in sales from #", "items": 2, "train": 2}]


@needs_shared
def test_real_areas_share_what_their_making_says():
    train = texts(shared("train.jsonl"))
    names = ("fin_tables", "fin_reports", "contracts", "receipts", "intent")
    areas = {name: texts(shared(f"heldout/{name}.jsonl")) for name in names}
    found = shared_runs(train, areas)
    assert 10 <= found["fin_tables"].items <= 15  # stock phrases of notes to accounts
    assert found["fin_reports"].items == 3  # one stock phrase
    assert found["contracts"].items == found["receipts"].items == found["intent"].items == 0
    assert [s.source for s in shared_sources(train, areas["fin_tables"])] == ["TAT-QA dev"]
    assert not any(shared_sources(train, areas[name]) for name in names[1:])
    templates = TrainTemplates(train)
    tables, reports = (templates.overlap(areas[name]) for name in names[:2])
    assert tables.share > 0.8 * tables.within_train > 2 * reports.share
