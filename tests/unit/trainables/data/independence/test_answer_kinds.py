import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.independence.answer_kinds import LONGEST_FIGURE, answer_kind, kind_shares, one_sided

CASES = {
    "yes/no": ["Yes", "no", "Yes.", "TRUE", " false "],
    "number": [
        "5",
        "1,496.5",
        "-12",
        "−12",
        "(5.3)",
        ".5",
        "38 thousand",
        "12.5 million",
        "3.2bn",
        "45 days",
        "60 calendar days",
        "4.5 years",
        "12-month",
        "~ 7",
        "0",
        "2020.5",
        "2,019",
        "1850",
    ],
    "money": [
        "$9.7 billion",
        "€75.0 million",
        "$(12.3) million",
        "-$5",
        "($5.3)",
        "£12",
        "US$ 1,000",
        "RM 45.00",
        "Rs. 500",
        "45.00 USD",
        "120 euros",
        "5 million dollars",
        "$3k",
        "-$1,496.5 million",
        "£12 million.",
    ],
    "percentage": ["12.6%", "-12.6 %", "(5.3)%", "(5.3%)", "8 percent", "8 per cent", "2 percentage points", "25 bps"],
    "date": [
        "2008",
        "FY2019",
        "fiscal 2019",
        "Q3 2019",
        "2019 Q3",
        "2019-01-31",
        "21/10/2017",
        "31.12.19",
        "January 7, 2019",
        "7 January 2019",
        "14 June",
        "June 14th",
        "March",
        "Sept. 2017",
        "1st day of May, 2018",
        "31-Dec-2019",
        "31 DEC 18",
    ],
    "list": [
        "2019; 2018",
        "apples; pears; plums",
        "- one\n- two",
        "1. one\n2. two",
        "* a thing\n* another thing",
        "$5 million; $6 million",
    ],
    "short text": [
        "Isle crossing",
        "wool blankets",
        "Dr Anna Feld",
        "Yes, in writing",
        "$5 and $6",
        "2019 and 2018",
        "12 High Street, London",
        "5%-6%",
        "maybe",
        "May the best win",
        "Q3",
        "B",
        "...",
        "- one bullet",
        "21/10.2017",
        "one;",
    ],
    "long text": [
        "word " * 21,
        "The agreement ends when either of the parties gives notice of sixty days or more; the other party may then "
        "claim what it is owed within a year.",
    ],
}


@pytest.mark.parametrize(("kind", "response"), [(kind, text) for kind, texts in CASES.items() for text in texts])
def test_kind(kind, response):
    assert answer_kind(response) == kind


def test_twenty_words_are_short():
    assert answer_kind("word " * 20) == "short text"


def test_a_figure_has_an_end():
    assert answer_kind("9" * LONGEST_FIGURE) == "number"
    assert answer_kind("9" * 1_000_000) == "short text"


@given(st.text())
def test_every_text_has_a_kind(response):
    assert answer_kind(response) in CASES


def test_shares():
    assert kind_shares(["5", "7", "yes", "a; b"]) == {"number": 0.5, "yes/no": 0.25, "list": 0.25}


@pytest.mark.parametrize(
    ("here", "there", "found"),
    [
        ({"number": 0.95, "list": 0.05}, {"number": 1.0}, ["list"]),
        ({"number": 0.951, "list": 0.049}, {"number": 1.0}, []),
        ({"list": 1.0}, {"number": 0.991, "list": 0.009}, ["list"]),
        ({"list": 1.0}, {"number": 0.99, "list": 0.01}, []),
        ({"number": 1.0}, {"number": 0.5, "list": 0.5}, []),
    ],
)
def test_one_sided_from_5_percent_here_to_below_1_there(here, there, found):
    assert one_sided(here, there) == found
