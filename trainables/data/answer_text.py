"""What a generated answer says: its normalized words, its number, its list, the option that it names. Pure.

These readings know nothing of right or wrong; `trainables.evaluation.scorers` compares them with a reference.
"""

from __future__ import annotations

import re
import string
from decimal import Decimal

Option = tuple[str | None, str]
"""An option of a multiple-choice question: its upper-case letter, None where it has none, and its text."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_normalize(text: str) -> str:
    """Lower case, without ASCII punctuation, articles and superfluous white space.

    As `normalize_answer` of SQuAD's official `evaluate-v1.1.py`. Signs and decimal points are punctuation: "-1.5" and
    "15" are the same text; for numbers there is `number_within`.
    """
    without_articles = re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION))
    return " ".join(without_articles.split())


_LETTERED_LINE = re.compile(r"^[ \t]*\(?([A-Za-z])[).][ \t]+(\S.*)$", re.MULTILINE)
_OPTIONS_LINE = re.compile(r"^[ \t]*(?:options|choices|possible \w+)[ \t]*:(.+;.+)$", re.IGNORECASE | re.MULTILINE)


def options_in(prompt: str) -> list[Option]:
    """The options that a prompt lists; empty if it lists none.

    Either the last run of lines lettered from A on ("A) text", "(b) text", "C. text"; at least two), or one line such
    as "Options: one; two; three", "Choices: ..." or "Possible intents: ..." (options without letters).
    """
    run: list[Option] = []
    for letter, text in _LETTERED_LINE.findall(prompt):
        if letter.upper() == "A":
            run = []
        if letter.upper() == chr(ord("A") + len(run)):
            run.append((letter.upper(), text))
    if len(run) > 1:
        return run
    listed = _OPTIONS_LINE.search(prompt)
    return [] if listed is None else [(None, text.strip()) for text in listed[1].split(";")]


def first_named(text: str, options: list[Option]) -> int | None:
    """Place in `options` of the one that a text names first; None if it names none.

    An option is named by its text (any case, whole words; of two that begin at the same place the longer one) or by
    its letter: alone on a line, in brackets, before ")", "." or ":", or after "answer is", "option" or "choice". A
    letter in running text does not count ("A refund").
    """
    named = []
    for place, (letter, option) in enumerate(options):
        words = r"\s+".join(re.escape(word) for word in option.strip(" .").split())
        patterns = [rf"(?i:(?<!\w)(?<!\d[.,]){words}(?!\w|[.,]\d))"] if words else []
        if letter is not None:
            mark = re.escape(letter)
            patterns += [rf"(?i:^\W*{mark}(?:\W*$|[).:](?!\w)))", rf"\({mark}\)|(?<![\w.]){mark}[).:](?!\w)"]
            patterns += [rf"(?i:\b(?:answer(?:\s+is)?|option|choice))[\s:*(\"']*{mark}(?!\w)"]
        hits = [hit for pattern in patterns for hit in re.finditer(pattern, text, re.MULTILINE)]
        named += [(hit.start(), -len(hit[0]), place) for hit in hits]
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
    """The numbers in a text in order, exactly.

    Read are signs, thousands commas, currency marks, accountants' brackets ("(5.3)" is -5.3), per cents (a hundredth)
    and the words thousand, million, billion, trillion (also mn, bn, tn, and k, m, b right after the digits). Digits in
    a word ("Q3"), a decimal comma ("5,25") and dotted dates are no number.
    """
    return [_value(match) for match in _NUMBER.finditer(text)]


def _value(match: re.Match[str]) -> Decimal:
    value = Decimal(match["digits"].replace(",", ""))
    for unit in filter(None, (match["unit"], match["late_unit"])):
        value = value.scaleb(_POWERS[re.sub(r"[\s-]", "", unit).lower().rstrip("s")])
    bracketed = (match["open"] or match["inner_open"]) and match["close"]
    return -value if bracketed or match["minus"] or match["inner_minus"] else value


_BULLET = re.compile(r"^\s*(?:[-*•–]|\d+[.)])\s+")


def entries(text: str) -> list[str]:
    """The entries of a list, each as `squad_normalize` leaves it; empty ones are left out.

    Entries are lines; in a single line they are parted by ";", or where there is none by "," and white space. Bullets,
    numbers before entries and an "and" before the last are not part of them.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        lines = re.split(r";|,\s" if ";" not in text else ";", text)
    read = (squad_normalize(re.sub(r"^\s*and\s", "", _BULLET.sub("", line))) for line in lines)
    return [entry for entry in read if entry]


def bullets(text: str) -> int:
    """Number of lines that begin with a bullet (-, *, •, –) or a number ("1." or "1)")."""
    return sum(bool(_BULLET.match(line)) for line in text.splitlines())
