"""Reading answers: SQuAD's normalisation, numbers, options, lists."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.answer_text import bullets, entries, numbers_in, options_in, squad_normalize


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat,\n sat.", "cat sat"),
        ("An apple a day", "apple day"),
        ("$1,496.5 million", "14965 million"),
        ("a.b", "ab"),
        ("theatre an-other", "theatre another"),
        ("U.S.", "us"),
        ("“quoted”", "“quoted”"),
        ("", ""),
        ("The", ""),
    ],
)
def test_squad_normalise(text: str, normal: str) -> None:
    assert squad_normalize(text) == normal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", "5"),
        ("-5.25", "-5.25"),
        ("−5.25", "-5.25"),
        (".5", "0.5"),
        ("$1,496.5 million", "1496500000"),
        ("The total was US$ 1,496.5 million in 2019.", "1496500000"),
        ("RM14.20", "14.20"),
        ("EUR 3 bn", "3000000000"),
        ("1.2bn", "1200000000"),
        ("$5M", "5000000"),
        ("12 thousand", "12000"),
        ("5-million", "5000000"),
        ("2 millions", "2000000"),
        ("3 trillion", "3000000000000"),
        ("58.71%", "0.5871"),
        ("12 percent", "0.12"),
        ("12 per cent", "0.12"),
        ("(10.1)", "-10.1"),
        ("$(10.1)", "-10.1"),
        ("($10.1)", "-10.1"),
        ("(5.3)%", "-0.053"),
        ("(5.3%)", "-0.053"),
        ("(5.3) million", "-5300000"),
        ("-$4", "-4"),
        ("$-4", "-4"),
        ("1,00,000", "100000"),
        ("2018-2019", "2018"),
        ("- 5 items", "5"),
        ("Q3 was 7", "7"),
        ("grew (by 4 in all)", "4"),
        ("it is 5.", "5"),
        ("5 metres", "5"),
        ("5 minutes", "5"),
        ("none", None),
        ("", None),
        ("Q3", None),
        ("5,25", None),
        ("10.05.2018", None),
        ("1.2.3", None),
    ],
)
def test_first_number(text: str, value: str | None) -> None:
    assert numbers_in(text)[:1] == ([] if value is None else [Decimal(value)])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("30,303; 303,793", ["30303", "303793"]),
        ("32%; (13%)", ["0.32", "-0.13"]),
        ("$1.5 million, down from $2 million", ["1500000", "2000000"]),
        ("2018-2019", ["2018", "2019"]),
        ("09/05/2018", ["9", "5", "2018"]),
    ],
)
def test_numbers_in(text: str, values: list[str]) -> None:
    assert numbers_in(text) == [Decimal(value) for value in values]


@settings(deadline=None)
@given(st.text(alphabet="0123456789.,()-$% mbillion", max_size=30))
def test_numbers_in_any_text_are_finite(text: str) -> None:
    assert all(value.is_finite() for value in numbers_in(text))


@settings(deadline=None)
@given(st.decimals(-(10**12), 10**12, places=2))
def test_numbers_in_reads_what_format_writes(value: Decimal) -> None:
    assert numbers_in(f"{value:,}") == [value]
    assert numbers_in(f"${value:,} million") == [value.scaleb(6)]
    assert numbers_in(f"({abs(value)}%)") == [-abs(value).scaleb(-2)]


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ("Which?\nA) Paris\nB) New York\nC) York", [("A", "Paris"), ("B", "New York"), ("C", "York")]),
        ("(a) one\n (b) two", [("A", "one"), ("B", "two")]),
        ("A. Smith wrote:\nwhat?\nA. one\nB. two", [("A", "one"), ("B", "two")]),
        ("A) one", []),
        ("Options: red; dark red", [(None, "red"), (None, "dark red")]),
        ("Name the options.", []),
    ],
)
def test_options_in(prompt: str, options: list) -> None:
    assert options_in(prompt) == options


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2019; 2018; 2017", ["2019", "2018", "2017"]),
        ("$1,294,253; $1,139,927", ["1294253", "1139927"]),
        ("Red, green, and blue", ["red", "green", "blue"]),
        ("1. Red\n2. Green\n\n- Blue", ["red", "green", "blue"]),
        ("1,294, 5", ["1294", "5"]),
        ("Research and development", ["research and development"]),
        ("", []),
    ],
)
def test_entries(text: str, read: list[str]) -> None:
    assert entries(text) == read


def test_bullets() -> None:
    assert bullets("Here:\n- one\n  * two\n3. three\n4) four\n• five\n-six\n7.5 seven") == 5
