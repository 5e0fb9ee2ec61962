"""Parse the text of an answer: its normalized words, numbers, list entries, the option it names, its kind. Pure.

Nothing here judges right or wrong: `trainables.evaluation.scorers` compares the parts with a reference.
"""

from __future__ import annotations

import re
import string
from decimal import Decimal
from typing import Literal

Option = tuple[str | None, str]  # of a multiple-choice question: its upper-case letter, if it has one, and its text
AnswerKind = Literal["number", "money", "percentage", "date", "yes/no", "list", "short text", "long text"]

# Ours: a text of more words is a sentence or more.
LONGEST_SHORT_TEXT = 20
# Ours, in words: a longer part between two ";" is a clause of a sentence, not an entry of a list.
LONGEST_ENTRY = 12
# Ours, in characters: bounds the time of the patterns on hostile text.
LONGEST_FIGURE = 60

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_normalize(text: str) -> str:
    """Lower-case a text and remove ASCII punctuation, articles and superfluous white space.

    Equals `normalize_answer` of SQuAD's official `evaluate-v1.1.py`. Signs and decimal points are punctuation, so that
    "-1.5" and "15" become one text; read numbers with `numbers_in`.
    """
    without_articles = re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION))
    return " ".join(without_articles.split())


_LETTERED_LINE = re.compile(r"^[ \t]*\(?([A-Za-z])[).][ \t]+(\S.*)$", re.MULTILINE)
_OPTIONS_LINE = re.compile(r"^[ \t]*(?:options|choices|possible \w+)[ \t]*:(.+;.+)$", re.IGNORECASE | re.MULTILINE)


def options_in(prompt: str) -> list[Option]:
    """The options that a prompt lists, or an empty list.

    Read is the last run of two or more lines lettered from A ("A) text", "(b) text", "C. text"). Without a run, it is a
    line such as "Options: one; two; three", "Choices: ..." or "Possible intents: ..." (options without letters).
    """
    run: list[Option] = []
    for letter, text in _LETTERED_LINE.findall(prompt):
        # The last run counts: few-shot examples before the question list options of their own.
        if letter.upper() == "A":
            run = []
        if letter.upper() == chr(ord("A") + len(run)):
            run.append((letter.upper(), text))
    if len(run) > 1:
        return run
    listed = _OPTIONS_LINE.search(prompt)
    return [] if listed is None else [(None, text.strip()) for text in listed[1].split(";")]


def first_named(text: str, options: list[Option]) -> int | None:
    """Index of the option that a text names first; None if it names none.

    The text names an option by the option's words, in any case. Of two that begin at one position the longer wins. A
    letter names an option on a line of its own, in brackets, before ")", "." or ":", or after "answer is", "option"
    or "choice"; a letter in running text does not ("A refund").
    """
    named = []
    for index, (letter, option) in enumerate(options):
        words = r"\s+".join(re.escape(word) for word in option.strip(" .").split())
        patterns = [rf"(?i:(?<!\w)(?<!\d[.,]){words}(?!\w|[.,]\d))"] if words else []
        if letter is not None:
            mark = re.escape(letter)
            patterns += [rf"(?i:^\W*{mark}(?:\W*$|[).:](?!\w)))", rf"\({mark}\)|(?<![\w.]){mark}[).:](?!\w)"]
            patterns += [rf"(?i:\b(?:answer(?:\s+is)?|option|choice))[\s:*(\"']*{mark}(?!\w)"]
        hits = [hit for pattern in patterns for hit in re.finditer(pattern, text, re.MULTILINE)]
        named += [(hit.start(), -len(hit[0]), index) for hit in hits]
    return min(named)[2] if named else None


_NUMBER = re.compile(
    r"""(?<![\w.]) (?<!\d,)
    (?P<minus>[-−])? (?P<open>\()? (?:[A-Z]{0,3}[$€£¥]\ ?|(?:USD|EUR|GBP|CHF|JPY|CNY|INR|RM|Rs\.?)\ ?)?
    (?P<inner_open>\()? (?P<inner_minus>[-−])?
    (?P<digits>(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d+)(?:\.\d+)?|\.\d+) (?![.,]?\d)
    (?P<unit>[kmb](?!\w)|\s?%|[\s-]?(?:per\ ?cent|(?:thousand|million|billion|trillion)s?|mn|bn|tn)(?!\w))?
    (?P<close>\))? (?P<late_unit>\s?(?:%|(?:per\ ?cent|thousand|million|billion|trillion)(?!\w)))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_POWERS = {"%": -2, "percent": -2, "k": 3, "thousand": 3, "m": 6, "mn": 6, "million": 6}
_POWERS |= {"b": 9, "bn": 9, "billion": 9, "tn": 12, "trillion": 12}


def numbers_in(text: str) -> list[Decimal]:
    """The numbers in a text, in order and exact.

    Understood are signs, thousands commas, currency marks, accountants' brackets ("(5.3)" is -5.3), percent signs (a
    hundredth) and scales: thousand, million, billion, trillion, mn, bn, tn, and k, m, b right after the digits. Digits
    in a word ("Q3"), a decimal comma ("5,25") and dotted dates are no number.
    """
    return [_value(match) for match in _NUMBER.finditer(text)]


def _value(match: re.Match[str]) -> Decimal:
    value = Decimal(match["digits"].replace(",", ""))  # not float: scorers compare for equality
    for unit in filter(None, (match["unit"], match["late_unit"])):
        value = value.scaleb(_POWERS[re.sub(r"[\s-]", "", unit).lower().rstrip("s")])
    bracketed = (match["open"] or match["inner_open"]) and match["close"]
    return -value if bracketed or match["minus"] or match["inner_minus"] else value


_BULLET = re.compile(r"^\s*(?:[-*•–]|\d+[.)])\s+")


def entries(text: str) -> list[str]:
    """The non-empty entries of a list, each normalized by `squad_normalize`.

    Entries are lines. In a single line they are separated by ";", or without any ";" by a comma and white space.
    Bullets, numbers before entries and an "and" before the last entry are removed.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        # A comma without white space does not separate: it may be inside a number.
        lines = text.split(";") if ";" in text else re.split(r",\s", text)
    read = (squad_normalize(re.sub(r"^\s*and\s", "", _BULLET.sub("", line))) for line in lines)
    return [entry for entry in read if entry]


def bullets(text: str) -> int:
    """Count the lines that begin with a bullet (-, *, •, –) or a number ("1." or "1)")."""
    return sum(bool(_BULLET.match(line)) for line in text.splitlines())


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
# A number's unit must be in lower case: "5 High Street" is an address.
_PATTERNS = [(kind, re.compile(pattern, 0 if kind == "number" else re.IGNORECASE)) for kind, pattern in _FORMS]


def answer_kind(response: str) -> AnswerKind:
    """Classify a response by its form; a full stop at the end is ignored.

    "yes/no" is yes, no, true or false and nothing more. "list" is two or more bulleted or numbered lines, or entries of
    at most 12 words separated by ";". "percentage", "money", "date" and "number" are one such figure and nothing more.
    Money has a currency mark or name. A year, a month, or a quarter with its year is a date. A number may have a scale
    and up to two words of unit ("45 days"). All others are texts, long above 20 words.
    """
    text = response.strip().removesuffix(".").strip()
    if _is_list(text):
        return "list"
    for kind, pattern in _PATTERNS if len(text) <= LONGEST_FIGURE else ():
        if pattern.fullmatch(text):
            return kind
    return "short text" if len(text.split()) <= LONGEST_SHORT_TEXT else "long text"


def _is_list(text: str) -> bool:
    if bullets(text) > 1:
        return True
    parts = [part.split() for part in text.split(";") if part.strip()]
    return len(parts) > 1 and max(map(len, parts)) <= LONGEST_ENTRY
