"""What kind of answer a response is: plain rules on its form alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from trainables.data.answer_text import bullets

AnswerKind = Literal["number", "money", "percentage", "date", "yes/no", "list", "short text", "long text"]

LONGEST_SHORT_TEXT = 20
"""Words of a short text (ours); a longer one is a sentence or more."""

LONGEST_ENTRY = 12
"""Words of an entry of a list that is parted by ";" (ours): longer parts are clauses of a sentence."""

LONGEST_FIGURE = 60
"""Characters of a figure or date (ours)."""

PRESENT = 0.05
"""A kind is present on a side from this share of its responses (ours) ..."""

ABSENT = 0.01
"""... and absent below this one (ours), so that a single odd response does not hide a gap."""

_SIGN = r"[-−+~]?\s?"
_DIGITS = r"(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_SCALE = r"(?:\s?[kmb]|\s?(?:mn|bn|tn)|[\s-](?:thousand|million|billion|trillion)s?)"
_MARK = r"(?:[A-Z]{0,3}[$€£¥₹]|(?:USD|EUR|GBP|CHF|JPY|CNY|INR|RM|Rs\.?))"
_CURRENCY = (
    r"(?:USD|EUR|GBP|CHF|JPY|CNY|INR|[$€£¥₹]|(?:US )?(?:dollars?|euros?|pounds?|yen|yuan|rupees?|francs?|cents?))"
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_YEAR = r"(?:19|20)\d\d"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"

_AMOUNT = rf"{_SIGN}\(?{_SIGN}{_DIGITS}\)?{_SCALE}?\)?"
_FORMS: list[tuple[AnswerKind, str]] = [
    ("yes/no", r"yes|no|true|false"),
    ("percentage", rf"{_SIGN}\(?{_SIGN}{_DIGITS}\)?\s?(?:%|per ?cent|(?:percentage|basis) points?|bps)\)?"),
    ("money", rf"{_SIGN}\(?{_SIGN}{_MARK}\s?{_AMOUNT}\)?|{_AMOUNT}\s?{_CURRENCY}"),
    ("date", rf"(?:(?:FY|CY|fiscal(?: year)?|[QH][1-4]|year) ?)?{_YEAR}|{_YEAR} ?[QH][1-4]"),
    ("date", rf"{_YEAR}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}([-/.])\d{{1,2}}\1(?:\d\d)?\d\d"),
    ("date", rf"(?:{_DAY}(?: day)?(?: of)?[ -/])?{_MONTH}[ ,./-]{{0,2}}(?:{_YEAR}|\d\d)?"),
    ("date", rf"{_MONTH} ?{_DAY}(?:,? ?{_YEAR})?"),
    ("number", rf"{_AMOUNT}(?:[\s-]?[a-z²³°]+(?: [a-z]+)?)?"),
]
_PATTERNS = [(kind, re.compile(pattern, re.IGNORECASE if kind != "number" else 0)) for kind, pattern in _FORMS]


def answer_kind(response: str) -> AnswerKind:
    """The kind of a response, judged by its form as a whole; a full stop at its end does not count.

    "yes/no": nothing but yes, no, true or false. "list": two bulleted or numbered lines or more, or entries of at most
    12 words parted by ";". "percentage", "money" (a currency mark or name), "date" (also a year, a month or a quarter
    with its year) and "number" (with scale and up to two words of unit: "45 days") are such a figure and nothing else.
    All others are texts, long above 20 words.
    """
    text = response.strip().removesuffix(".").strip()
    if _is_list(text):
        return "list"
    for kind, pattern in _PATTERNS if len(text) <= LONGEST_FIGURE else ():
        if pattern.fullmatch(text):
            return kind
    return "short text" if len(text.split()) <= LONGEST_SHORT_TEXT else "long text"


def kind_shares(responses: Iterable[str]) -> dict[str, float]:
    """The share of each kind that occurs, the commonest first."""
    counts = Counter(answer_kind(response) for response in responses)
    return {kind: count / counts.total() for kind, count in counts.most_common()}


def one_sided(here: Mapping[str, float], there: Mapping[str, float]) -> list[str]:
    """The kinds that make up at least 5 % of one side and below 1 % of the other, commonest first."""
    return [kind for kind, share in here.items() if share >= PRESENT and there.get(kind, 0.0) < ABSENT]


def _is_list(text: str) -> bool:
    if bullets(text) > 1:
        return True
    parts = [part.split() for part in text.split(";") if part.strip()]
    return len(parts) > 1 and max(map(len, parts)) <= LONGEST_ENTRY
