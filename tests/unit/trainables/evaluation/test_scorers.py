"""Scorers: SQuAD's rules, the comparisons with a reference, limits, and loading them by name."""

import re
import string
import sys
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


NEAR = [(0.0, "12.6%", "0.126"), (0, "$1.5 million", "1,500 thousand"), (0.05, "105", "100"), (0.05, "95", "100")]
NEAR += [(0.1, "-1.1", "-1.0"), (0.5, "0", "0")]
FAR = [(0.05, "105.01", "100"), (0.1, "1.0", "-1.0"), (0.5, "0.001", "0"), (0.01, "5", "5%")]
FAR += [(0.01, "1,496.5", "$1,496.5 million"), (0.01, "no idea", "5")]


@pytest.mark.parametrize(("tolerance", "answer", "reference"), NEAR + FAR)
def test_number_within(tolerance: float, answer: str, reference: str) -> None:
    assert score({"number_within": tolerance}, answer, reference) == ((tolerance, answer, reference) in NEAR)


CAPITALS = "Which?\nA) Paris\nB) New York\nC) York\nD) 5"
INTENTS = "Message: hello\n\nPossible intents: card payment; pending card payment; top up; top up failed\n\nWhich?"


CHOSEN = [
    (CAPITALS, "B", 1.0, ["B", "**B**", "B. New York", "new  york", "It is New York.", "The answer is B because"]),
    (CAPITALS, "B", 1.0, ["Answer: (B)", "A city: New York", "Let me think.\nB"]),
    (CAPITALS, "B", 0.0, ["It is York.", "I choose option C", "Not Paris but New York", ""]),
    (CAPITALS, "New York", 1.0, ["b"]),
    (CAPITALS, "B) New York", 1.0, ["(B)"]),
    (CAPITALS, "C", 0.0, ["Yorkshire"]),
    (CAPITALS, "D", 1.0, ["5."]),
    (CAPITALS, "D", 0.0, ["5.3", "3.5"]),
    (INTENTS, "pending card payment", 1.0, ["pending card payment"]),
    (INTENTS, "pending card payment", 0.0, ["card payment", "B"]),
    (INTENTS, "top up failed", 1.0, ["Top up failed"]),
    (INTENTS, "top up failed", 0.0, ["top up"]),
]


@pytest.mark.parametrize(
    ("prompt", "reference", "expected", "answer"), [(*case, answer) for *case, answers in CHOSEN for answer in answers]
)
def test_multiple_choice(prompt: str, reference: str, expected: float, answer: str) -> None:
    assert score("multiple_choice", answer, reference, prompt=prompt) == expected


@pytest.mark.parametrize("key", ["options", "choices"])
@pytest.mark.parametrize("options", [["red", "dark red"], {"a": "red", "B": "dark red"}])
def test_multiple_choice_takes_the_options_of_the_item(key: str, options: object) -> None:
    assert score("multiple_choice", "Dark red.", "B", **{key: options}) == 1.0
    assert score("multiple_choice", "red", "B", **{key: options}) == 0.0
    many = [f"city {number}" for number in range(30)]  # past the alphabet they have no letter
    assert score("multiple_choice", "[", "city 26", **{key: many}) == 0.0
    assert score("multiple_choice", "Z", "city 25", **{key: many}) == 1.0


@pytest.mark.parametrize(
    ("spec", "answer", "expected"),
    [
        ("list_order", "a1; b2; c3; d4", 1.0),
        ("list_order", "1. A1\n2. B2\n3. C3\n4. D4", 1.0),
        ("list_order", "b2; a1; c3; d4", 0.75),
        ("list_order", "d4; c3; b2; a1", 0.25),
        ("list_order", "a1; b2", 0.5),
        ("list_order", "a1; b2; c3; d4; e5", 0.8),
        ("list_order", "x; y", 0.0),
        ("list_order", "", 0.0),
        ({"word_limit": 3}, "one two  three", 1.0),
        ({"word_limit": 3}, "one two three four", 0.0),
        ({"word_limit": 3}, " ", 0.0),
        ({"bullet_limit": 2}, "Here:\n- one\n  * two", 1.0),
        ({"bullet_limit": 2}, "1. one\n2) two\n3. three", 0.0),
        ({"bullet_limit": 2}, "no bullets - none", 0.0),
    ],
)
def test_list_order_and_limits(spec: str | dict, answer: str, expected: float) -> None:
    assert score(spec, answer, "a1; b2; c3; d4") == expected


def test_load_scorers_keeps_names_and_order() -> None:
    specs = ["token_f1", {"word_limit": 5}, "exact_match", {"number_within": 0.01}]
    assert list(load_scorers(specs)) == ["token_f1", "word_limit", "exact_match", "number_within"]


WRONG = [
    ("did you mean exact_match?", ["exact_mach"]),
    ("known are exact_match, token_f1", ["zzz"]),
    ("takes no argument", [{"exact_match": 1}, {"math:sqrt": 2}]),
    ("needs a tolerance", ["number_within", *({"number_within": wrong} for wrong in (-0.1, float("nan"), True))]),
    ("needs a whole number", [{"word_limit": 2.5}, {"bullet_limit": 0}, {"bullet_limit": True}]),
    ("{name: argument}", [{"word_limit": 3, "bullet_limit": 3}]),
    ("must be importable", ["no_such_module_here:score", "math:no_such_function", ":score", ".math:score"]),
    ("must be a function", ["math:pi"]),
]


@pytest.mark.parametrize(
    ("words", "specs"),
    [("named once", ["exact_match", "exact_match"]), *((words, [one]) for words, specs in WRONG for one in specs)],
)
def test_wrong_specs_are_refused(words: str, specs: list) -> None:
    with pytest.raises(UserError) as caught:
        load_scorers(specs, where="heldout.areas.x.scorers")
    assert words in str(caught.value)
    assert str(caught.value).startswith("heldout.areas.x.scorers: ")


@pytest.fixture
def own_scorers(tmp_path, monkeypatch) -> None:
    (tmp_path / "own_scorers_of_a_test.py").write_text(
        "def length(answer, item):\n    return len(answer) / len(item.response)\n\n"
        "def nothing(answer, item):\n    return None\n\n"
        "def not_a_number(answer, item):\n    return float('nan')\n\n"
        "def raises(answer, item):\n    return {}['x']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_scorers_of_a_test", raising=False)


@pytest.mark.usefixtures("own_scorers")
def test_the_users_own_function_must_give_a_number() -> None:
    assert score("own_scorers_of_a_test:length", "ab", "abcd") == 0.5
    for name in ("nothing", "not_a_number"):
        with pytest.raises(UserError, match=rf"own_scorers_of_a_test:{name}: must return a finite number.*item i1"):
            score(f"own_scorers_of_a_test:{name}", "ab", "abcd")


@pytest.mark.usefixtures("own_scorers")
def test_what_the_users_own_code_raises_is_one_line(tmp_path) -> None:
    items = [Item(name, "?", "7") for name in ("a", "b")]
    errors = reference_errors(items, load_scorers(["own_scorers_of_a_test:raises"]))
    place = tmp_path / "own_scorers_of_a_test.py"
    assert [str(error) for error in errors] == [
        "own_scorers_of_a_test:raises: must score every answer, got KeyError ('x') in "
        f"{place}:{len(place.read_text().splitlines())} for item {name}; correct the function"
        for name in ("a", "b")
    ]
    (tmp_path / "a_script_of_a_test.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(
        UserError, match=r"scorers: a_script_of_a_test:f must be importable, got SystemExit \(0\) in .*:2"
    ):
        load_scorers(["a_script_of_a_test:f"])


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
