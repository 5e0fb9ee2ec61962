"""Scores of generated answers to held-out items, each 0 to 1 (right). Pure text functions.

`exact_match` and `token_f1` compare two texts. `load_scorers` makes the other scorers from an area's config; they take
the answer and the `Item`.
"""

from __future__ import annotations

import difflib
import importlib
import math
import numbers
import string
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from trainables.config.data_sections import Scorer
from trainables.data.answer_text import Option, bullets, entries, first_named, numbers_in, options_in, squad_normalize
from trainables.data.samples import Item
from trainables.errors import UserError

ScorerFunction = Callable[[str, Item], float]


def exact_match(answer: str, reference: str) -> float:
    """1.0 if both texts are the same after `squad_normalize`, else 0.0."""
    return float(squad_normalize(answer) == squad_normalize(reference))


def token_f1(answer: str, reference: str) -> float:
    """F1 of the words that both texts share (as multisets) after `squad_normalize`.

    As in SQuAD's `evaluate-v2.0.py`: where one text has no words, 1.0 if the other has none either, else 0.0.
    """
    answer_words, reference_words = squad_normalize(answer).split(), squad_normalize(reference).split()
    if not answer_words or not reference_words:
        return float(answer_words == reference_words)
    shared = sum((Counter(answer_words) & Counter(reference_words)).values())
    return 2.0 * shared / (len(answer_words) + len(reference_words))


def multiple_choice(answer: str, item: Item) -> float:
    """1.0 if the first option named in the answer is the reference's, else 0.0.

    An option is named by its text (any case, whole words; of two that begin at the same place the longer one) or by its
    letter: on a line of its own, in brackets, before ")", "." or ":", or after "answer is", "option" or "choice". A
    letter in running text does not count ("A refund").

    The options are the item's key `options` or `choices` (a list, lettered A, B, ... in order, or letter to text), or
    lines of the prompt such as "A) text", or one line such as "Options: one; two; three" (without letters).

    Raises:
        UserError: The item has no options, or its reference names none of them.
    """
    options = _options(item)
    right = first_named(item.response, options)
    if right is None:
        raise UserError(f"item {item.id}", "the reference must name an option", item.response, "correct the item")
    return float(first_named(answer, options) == right)


def _options(item: Item) -> list[Option]:
    given = item.meta.get("options", item.meta.get("choices"))
    if isinstance(given, dict) and given:
        return [(str(letter).upper(), str(text)) for letter, text in given.items()]
    if isinstance(given, list) and given:
        return [(letter, str(text)) for letter, text in zip_longest(string.ascii_uppercase[: len(given)], given)]
    options = options_in(item.prompt) if given is None else []
    if not options:
        remedy = 'add a key "options" (a list) or write the options into the prompt, one a line, as "A) text"'
        raise UserError(f"item {item.id}", "multiple_choice needs the options", given or "none", remedy)
    return options


def number_within(tolerance: float) -> ScorerFunction:
    """Score 1.0 if the answer's first number is within a tolerance of the reference's, else 0.0.

    The tolerance is relative: |answer - reference| <= tolerance * |reference|; a reference of 0 accepts only 0. Units
    count: "5" is not "5%", nor is "1,496.5" "$1,496.5 million". A reference without a number, or with several (a date,
    a list), is a `UserError`.
    """
    # Decimal: with binary floats 1.1 would miss 1 by more than a tolerance of 0.1.
    limit = Decimal(str(tolerance))

    def score(answer: str, item: Item) -> float:
        references, values = numbers_in(item.response), numbers_in(answer)
        if len(references) != 1:
            raise UserError(f"item {item.id}", "the reference must hold one number", item.response, "correct the item")
        return float(bool(values) and abs(values[0] - references[0]) <= limit * abs(references[0]))

    return score


def list_order(answer: str, item: Item) -> float:
    """Share of a list in the right order: longest common subsequence / length of the longer list.

    1.0 only for the same entries (after `squad_normalize`) in the same order; missing and surplus entries count against
    it. `trainables.data.answer_text.entries` defines an entry. A reference without entries is a `UserError`.
    """
    given, right = entries(answer), entries(item.response)
    if not right:
        raise UserError(f"item {item.id}", "the reference must hold a list", item.response, "correct the item")
    # lengths[j]: longest common subsequence of the entries of `given` so far and the first j of `right`.
    lengths = [0] * (len(right) + 1)
    for entry in given:
        before = lengths
        lengths = [0]
        for place, other in enumerate(right):
            lengths.append(before[place] + 1 if entry == other else max(before[place + 1], lengths[place]))
    return lengths[-1] / max(len(given), len(right))


def word_limit(limit: int) -> ScorerFunction:
    """Score 1.0 if the answer has 1 to `limit` words (separated by white space), else 0.0."""
    return lambda answer, _: float(1 <= len(answer.split()) <= limit)


def bullet_limit(limit: int) -> ScorerFunction:
    """Score 1.0 if the answer has 1 to `limit` lines that begin with a bullet (-, *, •) or a number, else 0.0."""
    return lambda answer, _: float(1 <= bullets(answer) <= limit)


_PLAIN: dict[str, ScorerFunction] = {
    "exact_match": lambda answer, item: exact_match(answer, item.response),
    "token_f1": lambda answer, item: token_f1(answer, item.response),
    "multiple_choice": multiple_choice,
    "list_order": list_order,
}
_WITH_FRACTION = {"number_within": number_within}
_WITH_COUNT = {"word_limit": word_limit, "bullet_limit": bullet_limit}


def load_scorers(specs: list[Scorer], where: str = "scorers") -> dict[str, ScorerFunction]:
    """Make the scorers of an area, by name.

    Args:
        specs: Each a name, `{name: argument}`, or the user's `package.module:function`, called as `function(answer,
            item)` and returning a finite number.
        where: Config key of the scorers, for errors.

    Raises:
        UserError: A name is unknown or given twice, an argument is missing, surplus or out of range, or the user's
            function cannot be imported.
    """
    scorers: dict[str, ScorerFunction] = {}
    for spec in specs:
        if isinstance(spec, dict) and len(spec) != 1:
            raise UserError(where, "a scorer with an argument must be {name: argument}", spec, "write one entry each")
        name, argument = next(iter(spec.items())) if isinstance(spec, dict) else (spec, None)
        if name in scorers:
            raise UserError(where, "a scorer must be named once", name, "leave one out")
        scorers[name] = _load(str(name), argument, where)
    return scorers


def reference_errors(items: Iterable[Item], scorers: dict[str, ScorerFunction]) -> list[UserError]:
    """Check an area's references before any answer is generated, by scoring each as an answer.

    Args:
        items: The area's items.
        scorers: Its scorers, from `load_scorers`.

    Returns:
        One error for each item and scorer that cannot be scored (a reference without a number, an item without options,
        a user's function that raises or returns no number).
    """
    errors = []
    for item in items:
        for score in scorers.values():
            try:
                score(item.response, item)
            except UserError as error:
                errors.append(error)
    return errors


def _raised(error: BaseException) -> str:
    """Type, text and place of an exception in the user's code."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} ({error}) in {last.filename}:{last.lineno}"


def _load(name: str, argument: Any, where: str) -> ScorerFunction:
    number = isinstance(argument, int | float) and not isinstance(argument, bool) and math.isfinite(argument)
    if name in _WITH_FRACTION:
        if not number or argument < 0:
            raise UserError(where, f"{name} needs a tolerance, 0 or more", argument, f"write {{{name}: 0.01}}")
        return _WITH_FRACTION[name](argument)
    if name in _WITH_COUNT:
        if not isinstance(argument, int) or not number or argument < 1:
            raise UserError(where, f"{name} needs a whole number, 1 or more", argument, f"write {{{name}: 50}}")
        return _WITH_COUNT[name](argument)
    if name not in _PLAIN and ":" not in name:
        names = [*_PLAIN, *_WITH_FRACTION, *_WITH_COUNT]
        close = difflib.get_close_matches(name, names, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"known are {', '.join(names)} and package.module:function"
        raise UserError(where, "a scorer must be a known name", name, remedy)
    if argument is not None:
        raise UserError(where, f"{name} takes no argument", argument, f"write {name} alone")
    return _PLAIN[name] if name in _PLAIN else _users_own(name, where)


def _users_own(name: str, where: str) -> ScorerFunction:
    """The function named by `package.module:function`; what it raises or returns amiss is a `UserError`."""
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise UserError(where, f"{name} must be importable ({error})", name, "check the name and PYTHONPATH") from error
    except (Exception, SystemExit) as error:  # the module's own code may raise anything, and a script may end
        raise UserError(where, f"{name} must be importable", _raised(error), "correct the module") from error
    if not callable(function):
        raise UserError(where, f"{name} must be a function", type(function).__name__, "name a function")

    def score(answer: str, item: Item) -> float:
        try:
            value = function(answer, item)
        except Exception as error:
            got = f"{_raised(error)} for item {item.id}"
            raise UserError(name, "must score every answer", got, "correct the function") from error
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise UserError(
                name, "must return a finite number", f"{value!r} for item {item.id}", "correct the function"
            )
        return float(value)

    return score
