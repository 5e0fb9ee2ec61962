"""Reading answers: SQuAD's normalisation, numbers, options, lists."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.answer_text import (
    LONGEST_FIGURE,
    answer_kind,
    bullets,
    entries,
    numbers_in,
    options_in,
    squad_normalize,
)


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
def test_squad_normalize(text: str, normal: str) -> None:
    assert squad_normalize(text) == normal


NUMBERS = [
    ("", ["none", "", "Q3", "5,25", "10.05.2018", "1.2.3"]),
    ("5", ["5", "- 5 items", "it is 5.", "5 metres", "5 minutes"]),
    ("7", ["Q3 was 7"]),
    ("4", ["grew (by 4 in all)"]),
    ("-4", ["-$4", "$-4"]),
    ("0.5", [".5"]),
    ("-5.25", ["-5.25", "−5.25"]),
    ("14.20", ["RM14.20"]),
    ("-10.1", ["(10.1)", "$(10.1)", "($10.1)"]),
    ("12000", ["12 thousand"]),
    ("100000", ["1,00,000"]),
    ("2000000", ["2 millions"]),
    ("5000000", ["$5M", "5-million"]),
    ("-5300000", ["(5.3) million"]),
    ("1200000000", ["1.2bn"]),
    ("1496500000", ["$1,496.5 million"]),
    ("3000000000", ["EUR 3 bn"]),
    ("3000000000000", ["3 trillion"]),
    ("0.5871", ["58.71%"]),
    ("0.12", ["12 percent", "12 per cent"]),
    ("-0.053", ["(5.3)%", "(5.3%)"]),
    ("1496500000 2019", ["The total was US$ 1,496.5 million in 2019."]),
    ("2018 2019", ["2018-2019"]),
    ("30303 303793", ["30,303; 303,793"]),
    ("0.32 -0.13", ["32%; (13%)"]),
    ("1500000 2000000", ["$1.5 million, down from $2 million"]),
    ("9 5 2018", ["09/05/2018"]),
]


@pytest.mark.parametrize(("values", "text"), [(values, text) for values, texts in NUMBERS for text in texts])
def test_numbers_in(values: str, text: str) -> None:
    assert numbers_in(text) == [Decimal(value) for value in values.split()]


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


KINDS = [
    ("yes/no", ["Yes", "no", "Yes.", "TRUE", " false "]),
    ("number", ["5", "1,496.5", "-12", "−12", "(5.3)", ".5", "38 thousand", "12.5 million", "3.2bn", "45 days"]),
    ("number", ["60 calendar days", "4.5 years", "12-month", "~ 7", "0", "2020.5", "2,019", "1850"]),
    ("money", ["$9.7 billion", "€75.0 million", "$(12.3) million", "-$5", "($5.3)", "£12", "US$ 1,000", "RM 45.00"]),
    ("money", ["Rs. 500", "45.00 USD", "120 euros", "5 million dollars", "$3k", "-$1,496.5 million", "£12 million."]),
    ("percentage", ["12.6%", "-12.6 %", "(5.3)%", "(5.3%)", "8 percent", "8 per cent", "2 percentage points"]),
    ("percentage", ["25 bps"]),
    ("date", ["2008", "FY2019", "fiscal 2019", "Q3 2019", "2019 Q3", "2019-01-31", "21/10/2017", "31.12.19"]),
    ("date", ["January 7, 2019", "7 January 2019", "14 June", "June 14th", "March", "Sept. 2017"]),
    ("date", ["1st day of May, 2018", "31-Dec-2019", "31 DEC 18"]),
    ("list", ["2019; 2018", "apples; pears; plums", "- one\n- two", "1. one\n2. two", "* a thing\n* another thing"]),
    ("list", ["$5 million; $6 million"]),
    ("short text", ["Isle crossing", "wool blankets", "Dr Anna Feld", "Yes, in writing", "$5 and $6"]),
    ("short text", ["2019 and 2018", "12 High Street, London", "5%-6%", "maybe", "May the best win", "Q3", "B"]),
    ("short text", ["...", "- one bullet", "21/10.2017", "one;"]),
    ("long text", ["word " * 21, "The agreement ends when either party gives notice " * 3]),
]


@pytest.mark.parametrize(("kind", "response"), [(kind, text) for kind, texts in KINDS for text in texts])
def test_answer_kind(kind: str, response: str) -> None:
    assert answer_kind(response) == kind


def test_answer_kinds_have_limits() -> None:
    assert answer_kind("word " * 20) == "short text"
    assert answer_kind("9" * LONGEST_FIGURE) == "number"
    assert answer_kind("9" * 1_000_000) == "short text"


@given(st.text())
def test_every_text_has_a_kind(response: str) -> None:
    assert answer_kind(response) in dict(KINDS)
