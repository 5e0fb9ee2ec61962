"""Scorers: SQuAD's rules, the comparisons with a reference, limits, and loading them by name."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.samples import Item
from trainables.errors import UserError
from trainables.evaluation.scorers import exact_match, load_scorers, reference_errors, token_f1


def item(response: str, prompt: str = "?", **meta: object) -> Item:
    return Item("i1", prompt, response, meta)


def score(spec: object, answer: str, reference: str, **meta: object) -> float:
    (function,) = load_scorers([spec]).values()
    return function(answer, item(reference, **meta))


@pytest.mark.parametrize(
    ("answer", "reference", "match", "f1"),
    [
        ("The U.S.", "us", 1.0, 1.0),
        ("the cat sat", "a cat slept", 0.0, 0.5),
        ("x x y", "x z", 0.0, 0.4),
        ("cat", "dog", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("the", "", 1.0, 1.0),
        ("", "dog", 0.0, 0.0),
        ("dog", "", 0.0, 0.0),
    ],
)
def test_exact_match_and_token_f1(answer: str, reference: str, match: float, f1: float) -> None:
    assert exact_match(answer, reference) == match
    assert token_f1(answer, reference) == pytest.approx(f1)
    assert score("exact_match", answer, reference) == match
    assert score("token_f1", answer, reference) == pytest.approx(f1)


words = st.lists(st.sampled_from(["the", "A", "cat", "cat.", "dog", "1,000", "-"]), max_size=6).map(" ".join)


@settings(deadline=None)
@given(words | st.text(max_size=20), words | st.text(max_size=20))
def test_f1_by_its_definition(answer: str, reference: str) -> None:
    """Precision and recall over SQuAD's normalisation, written in its four steps."""

    def tokens(text: str) -> list[str]:
        kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    given_, right = tokens(answer), tokens(reference)
    shared = sum((Counter(given_) & Counter(right)).values())
    if not given_ or not right:
        expected = float(given_ == right)
    elif shared == 0:
        expected = 0.0
    else:
        precision, recall = shared / len(given_), shared / len(right)
        expected = 2 * precision * recall / (precision + recall)
    assert token_f1(answer, reference) == pytest.approx(expected)
    assert exact_match(answer, reference) == float(given_ == right)


@pytest.mark.parametrize(
    ("tolerance", "answer", "reference", "expected"),
    [
        (0.0, "12.6%", "0.126", 1.0),
        (0, "$1.5 million", "1,500 thousand", 1.0),
        (0.05, "105", "100", 1.0),
        (0.05, "95", "100", 1.0),
        (0.05, "105.01", "100", 0.0),
        (0.1, "-1.1", "-1.0", 1.0),
        (0.1, "1.0", "-1.0", 0.0),
        (0.5, "0", "0", 1.0),
        (0.5, "0.001", "0", 0.0),
        (0.01, "5", "5%", 0.0),
        (0.01, "1,496.5", "$1,496.5 million", 0.0),
        (0.01, "no idea", "5", 0.0),
    ],
)
def test_number_within(tolerance: float, answer: str, reference: str, expected: float) -> None:
    assert score({"number_within": tolerance}, answer, reference) == expected


CAPITALS = "Which?\nA) Paris\nB) New York\nC) York\nD) 5"
INTENTS = "Message: hello\n\nPossible intents: card payment; pending card payment; top up; top up failed\n\nWhich?"


@pytest.mark.parametrize(
    ("answer", "reference", "prompt", "expected"),
    [
        ("B", "B", CAPITALS, 1.0),
        ("b", "New York", CAPITALS, 1.0),
        ("(B)", "B) New York", CAPITALS, 1.0),
        ("**B**", "B", CAPITALS, 1.0),
        ("B. New York", "B", CAPITALS, 1.0),
        ("new  york", "B", CAPITALS, 1.0),
        ("It is New York.", "B", CAPITALS, 1.0),
        ("It is York.", "B", CAPITALS, 0.0),
        ("The answer is B because", "B", CAPITALS, 1.0),
        ("Answer: (B)", "B", CAPITALS, 1.0),
        ("I choose option C", "B", CAPITALS, 0.0),
        ("Not Paris but New York", "B", CAPITALS, 0.0),
        ("A city: New York", "B", CAPITALS, 1.0),
        ("Let me think.\nB", "B", CAPITALS, 1.0),
        ("5.3", "D", CAPITALS, 0.0),
        ("3.5", "D", CAPITALS, 0.0),
        ("5.", "D", CAPITALS, 1.0),
        ("Yorkshire", "C", CAPITALS, 0.0),
        ("", "B", CAPITALS, 0.0),
        ("pending card payment", "pending card payment", INTENTS, 1.0),
        ("card payment", "pending card payment", INTENTS, 0.0),
        ("Top up failed", "top up failed", INTENTS, 1.0),
        ("top up", "top up failed", INTENTS, 0.0),
        ("B", "pending card payment", INTENTS, 0.0),
    ],
)
def test_multiple_choice(answer: str, reference: str, prompt: str, expected: float) -> None:
    assert score("multiple_choice", answer, reference, prompt=prompt) == expected


@pytest.mark.parametrize("key", ["options", "choices"])
@pytest.mark.parametrize("options", [["red", "dark red"], {"a": "red", "B": "dark red"}])
def test_multiple_choice_takes_the_options_of_the_item(key: str, options: object) -> None:
    assert score("multiple_choice", "Dark red.", "B", **{key: options}) == 1.0
    assert score("multiple_choice", "red", "B", **{key: options}) == 0.0


def test_options_past_the_alphabet_have_no_letter() -> None:
    options = [f"city {number}" for number in range(30)]
    assert score("multiple_choice", "[", "city 26", options=options) == 0.0
    assert score("multiple_choice", "Z", "city 25", options=options) == 1.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("a1; b2; c3; d4", 1.0),
        ("1. A1\n2. B2\n3. C3\n4. D4", 1.0),
        ("b2; a1; c3; d4", 0.75),
        ("d4; c3; b2; a1", 0.25),
        ("a1; b2", 0.5),
        ("a1; b2; c3; d4; e5", 0.8),
        ("x; y", 0.0),
        ("", 0.0),
    ],
)
def test_list_order(answer: str, expected: float) -> None:
    assert score("list_order", answer, "a1; b2; c3; d4") == expected


@pytest.mark.parametrize(
    ("spec", "answer", "expected"),
    [
        ({"word_limit": 3}, "one two  three", 1.0),
        ({"word_limit": 3}, "one two three four", 0.0),
        ({"word_limit": 3}, " ", 0.0),
        ({"bullet_limit": 2}, "Here:\n- one\n  * two", 1.0),
        ({"bullet_limit": 2}, "1. one\n2) two\n3. three", 0.0),
        ({"bullet_limit": 2}, "no bullets - none", 0.0),
    ],
)
def test_limits(spec: dict, answer: str, expected: float) -> None:
    assert score(spec, answer, "reference") == expected


def test_load_scorers_keeps_names_and_order() -> None:
    specs = ["token_f1", {"word_limit": 5}, "exact_match", {"number_within": 0.01}]
    assert list(load_scorers(specs)) == ["token_f1", "word_limit", "exact_match", "number_within"]


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        (["exact_mach"], "did you mean exact_match?"),
        (["zzz"], "known are exact_match, token_f1"),
        (["exact_match", "exact_match"], "named once"),
        ([{"exact_match": 1}], "takes no argument"),
        (["number_within"], "needs a tolerance"),
        ([{"number_within": -0.1}], "needs a tolerance"),
        ([{"number_within": float("nan")}], "needs a tolerance"),
        ([{"number_within": True}], "needs a tolerance"),
        ([{"word_limit": 2.5}], "needs a whole number"),
        ([{"bullet_limit": 0}], "needs a whole number"),
        ([{"bullet_limit": True}], "needs a whole number"),
        ([{"word_limit": 3, "bullet_limit": 3}], "{name: argument}"),
        (["no_such_module_here:score"], "must be importable"),
        (["math:no_such_function"], "must be importable"),
        ([":score"], "must be importable"),
        ([".math:score"], "must be importable"),
        (["math:pi"], "must be a function"),
        ([{"math:sqrt": 2}], "takes no argument"),
    ],
)
def test_wrong_specs_are_refused(specs: list, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_scorers(specs, where="heldout.areas.x.scorers")
    assert words in str(caught.value)
    assert str(caught.value).startswith("heldout.areas.x.scorers: ")


@pytest.fixture
def own_scorers(tmp_path, monkeypatch) -> None:
    (tmp_path / "own_scorers_of_a_test.py").write_text(
        "def length(answer, item):\n    return len(answer) / len(item.response)\n\n"
        "def nothing(answer, item):\n    return None\n\n"
        "def not_a_number(answer, item):\n    return float('nan')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own_scorers")
def test_the_users_own_function() -> None:
    assert score("own_scorers_of_a_test:length", "ab", "abcd") == 0.5


@pytest.mark.usefixtures("own_scorers")
@pytest.mark.parametrize("name", ["nothing", "not_a_number"])
def test_the_users_own_function_must_give_a_number(name: str) -> None:
    with pytest.raises(UserError, match=rf"own_scorers_of_a_test:{name}: must return a finite number.*item i1"):
        score(f"own_scorers_of_a_test:{name}", "ab", "abcd")


def test_reference_errors_name_each_item_that_cannot_be_scored() -> None:
    items = [
        Item("good", CAPITALS, "D) 5"),
        Item("no-number", CAPITALS, "Paris"),
        Item("no-option", CAPITALS, "6"),
        Item("no-options", "?", "7"),
    ]
    errors = reference_errors(items, load_scorers(["multiple_choice", {"number_within": 0.01}, "exact_match"]))
    assert [(error.where, error.rule) for error in errors] == [
        ("item no-number", "the reference must hold one number"),
        ("item no-option", "the reference must name an option"),
        ("item no-options", "multiple_choice needs the options"),
    ]


@pytest.mark.parametrize("reference", ["none", "January 29, 2020", "32%; 13%", ";"])
def test_a_reference_must_hold_one_number_or_a_list(reference: str) -> None:
    spec, rule = ("list_order", "a list") if reference == ";" else ({"number_within": 0.01}, "one number")
    with pytest.raises(UserError, match=f"item i1: the reference must hold {rule}"):
        score(spec, "29", reference)
