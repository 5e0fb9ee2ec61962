import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.trainables.data.audit.helpers import TABLE, audited, sample
from trainables.data.audit.duplicates import candidates, conflicts, first_of

ASKED = "What was the total amount of deferred revenue in 2019?"
FIRST = sample("a", f"{TABLE}Question: {ASKED}", "5")


def hits(*lines, **actions):
    found = audited(lines, actions=actions).train.hits
    return {rule: one.lines.tolist() for rule, one in found.items() if rule != "format_departure"}


@pytest.mark.parametrize("other", [{"id": "b"}, {}, {"id": "b", "source": "elsewhere"}])
def test_the_same_text_again_is_an_exact_duplicate_and_nothing_else(other):
    assert hits(FIRST, sample("x"), FIRST | other) == {"exact_duplicate": [3]}


@pytest.mark.parametrize(
    "prompt",
    [
        f"{TABLE}Question: {ASKED.upper()}",
        f"{TABLE}QUESTION: {ASKED.upper()}",
        f"{TABLE}Question:  {ASKED.lower()} ",
        TABLE.replace(" | ", "  |  ").replace("\n", "\r\n") + f"Question: {ASKED}",
        f"{TABLE.lower()}\n\nQuestion: {ASKED}",
        f"{TABLE}Question: {ASKED.replace('deferred', 'defered')}",
        f"{TABLE}Question: {ASKED.replace('amount', 'ammount')}",
        f"{TABLE}Question: {ASKED.replace('?', ' ?')}",
    ],
)
@pytest.mark.parametrize("response", ["5", " 5\n"])
def test_spaces_case_and_spelling_make_a_near_duplicate(prompt, response):
    assert hits(FIRST, sample("b", prompt, response)) == {"near_duplicate": [2]}


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": f"{TABLE}Question: What was the total amount of deferred revenue in 2018?"},
        {"prompt": f"{TABLE}Question: What was the net amount of deferred revenue in 2019?"},
        {"prompt": f"{TABLE}Question: {ASKED.replace('total', 'highest')}"},
        {"response": "6 million"},
        {"prompt": f"{TABLE.replace('13.6', '13.7')}Question: {ASKED}"},
        {"prompt": f"Some words about another company entirely, from 2016 on.\n\nQuestion: {ASKED}"},
        {"prompt": f"Question: {ASKED}"},
    ],
)
def test_another_question_context_figure_or_response_is_another_sample(changed):
    assert "near_duplicate" not in hits(FIRST, FIRST | {"id": "b"} | changed)


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("is it possible to change the delivery address of an order", "impossible", False),
        ("who is owed the larger amount by the members of the club", "owned", True),
        ("what increased the most in the first quarter of the year", "decreased", False),
    ],
)
def test_the_words_decide(one, other, near):
    word = {"impossible": "possible", "owned": "owed", "decreased": "increased"}[other]
    assert ("near_duplicate" in hits(sample("a", one, "no"), sample("b", one.replace(word, other), "no"))) == near


def test_a_long_text_may_have_a_word_more():
    text = " ".join(f"{a}{b}" for a, b in itertools.product("bcdfghklmn", ["aeiou", "ouch", "ish", "ing", "ard"]))
    assert hits(sample("a", text, "yes"), sample("b", f"{text} indeed", "yes")) == {"near_duplicate": [2]}
    assert hits(sample("a", f"{text} by", "yes"), sample("b", f"{text} to", "yes")) == {}


def test_a_shared_context_or_question_makes_no_duplicate():
    asked = "Question: which country is it the capital of, and since when?"
    assert hits(sample("a", f"Paris\n\n{asked}", "none"), sample("b", f"Lyon\n\n{asked}", "none")) == {}
    one_context = [sample(w, f"{TABLE * 20}Question: {w} {w} {w}?", "yes") for w in "abcdefghijklmnop"]
    assert hits(*one_context) == {}
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    one_question = [
        sample(str(i), f"{' '.join(three)}\n\nQuestion: which of the named intents fits this message best?", "yes")
        for i, three in enumerate(itertools.permutations(words, 3))
    ]
    assert hits(*one_question) == {}


def test_two_responses_to_one_prompt_contradict_each_other():
    lines = [sample("a", "Who?", "I"), sample("b", "who ?", "me"), sample("c", "WHO?", "you"), sample("d", "Who?", "i")]
    assert hits(*lines) == {"conflicting_responses": [3], "near_duplicate": [4]}


def test_a_copy_of_a_contradicting_line_is_a_copy():
    lines = [sample("a", "Who?", "I"), sample("c", "Who?", "you"), sample("d", "Who?", "you")]
    assert hits(*lines) == {"conflicting_responses": [2], "exact_duplicate": [3]}


def test_a_repeated_id_is_reported_unless_the_line_is_refused_as_a_copy():
    lines = [sample(name, f"{word} is it?") for name, word in zip("abaa", ["Who", "Where", "When", "Who"], strict=True)]
    assert hits(*lines) == {"repeated_id": [3], "exact_duplicate": [4]}
    assert hits(*lines, exact_duplicate="keep") == {"repeated_id": [3, 4], "exact_duplicate": [4]}
    assert hits(lines[0], sample("a", "who is it?")) == {"near_duplicate": [2]}
    kept = hits(lines[0], sample("a", "who is it?"), near_duplicate="keep")
    assert kept == {"near_duplicate": [2], "repeated_id": [2]}


def test_a_line_is_no_copy_of_one_that_is_dropped_for_its_own_fault():
    lines = [sample("a", f"{TABLE}Question: {ASKED}\x07", "5"), FIRST | {"id": "b"}]
    assert hits(*lines) == {"control_characters": [1], "near_duplicate": [2]}
    assert hits(*lines, control_characters="drop") == {"control_characters": [1]}


def test_a_finding_names_the_line_that_is_repeated():
    audit = audited([sample("x"), FIRST, FIRST | {"id": "b"}])
    (hit,) = audit.train.hits["exact_duplicate"].examples
    assert (hit.line, hit.related) == (3, f"{audit.train.path} line 2")
    assert hit.got == repr(ASKED)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=12, max_size=12), max_size=3))
def test_candidates_share_a_key_and_are_at_most_two_a_row_and_column(columns):
    keys = [np.array(column, np.uint64) for column in columns]
    considered = np.arange(12) % 5 != 4
    pairs = candidates(keys, considered).tolist()
    for later, earlier in pairs:
        assert earlier < later
        assert considered[later]
        assert considered[earlier]
        assert any(column[later] == column[earlier] != 0 for column in columns)
    partners = [[later for later, _ in pairs].count(row) for row in range(12)]
    assert max(partners) <= 2 * len(columns)
    for column in columns:  # nobody with an earlier equal is forgotten
        for row in range(12):
            if column[row] and considered[row] and any(considered[i] and column[i] == column[row] for i in range(row)):
                assert partners[row]


def test_many_rows_of_one_key_do_not_become_all_their_pairs():
    assert len(candidates([np.ones(10_000, np.uint64)], np.ones(10_000, bool))) < 20_000


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_firsts_and_conflicts_are_what_a_dictionary_finds(pairs):
    prompts, responses = (np.array(part, np.uint64) for part in zip(*pairs, strict=True))
    first = [[prompt for prompt, _ in pairs].index(prompt) for prompt, _ in pairs]
    assert first_of(prompts).tolist() == first
    rows, originals = conflicts(prompts, responses)
    expected = [i for i, (_, response) in enumerate(pairs) if response != pairs[first[i]][1]]
    assert rows.tolist() == expected
    assert originals.tolist() == [first[i] for i in expected]
