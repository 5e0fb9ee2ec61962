"""Find the constant text around prompts: one instruction around all of them, or a mixture of templates.

Most words of a short prompt can be its instruction's. Two prompts are then alike that ask different things, and two
prompts differ that ask the same thing under two instructions. The audit therefore compares what stands inside.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from trainables.data.audit.normalization import UNSPACED, UNSPACED_WORD

# All ours. A wrapper recurs in so many prompts of a data set. Questions begin alike by nature ("How do I …"), so that a
# short wrapper must stand at half of the prompts, and all together at a quarter.
FEWEST_WORDS = 3
LONG_WORDS = 5
FEWEST_PROMPTS = 4
LEAST_SHARE = 0.05
LEAST_OF_SHORT = 0.5
LEAST_COVERED = 0.25
# A wrapper ends where the prompts go apart: where fewer of them go on alike, for a few may lack the wrapper, or where
# they go on in more ways than templates of one beginning do.
GOES_ON = 0.95
MOST_WAYS = 4
MOST_WORDS = 400
MOST_CHARACTERS = 10_000  # of a prompt, at either end

# Marks that end a wrapper; others, as a minus or a quotation mark, may begin what follows.
CLOSING = r"[\s:.,;!?\uff1a\u3002\uff0c\uff1b\uff01\uff1f]"
SPACE = r"\s"

Path = tuple[str, ...]


@dataclass(frozen=True)
class Wrappers:
    """Texts that stand before and after many prompts.

    Attributes:
        before: Words of each text at the start, in lower case and without punctuation, the longest first.
        after: Words of each text at the end, likewise.
    """

    before: tuple[Path, ...] = ()
    after: tuple[Path, ...] = ()

    def span(self, prompt: str) -> tuple[int, int]:
        """Start and end of what stands inside, in characters: the whole prompt where nothing would be left."""
        start, end = 0, len(prompt)
        if self.before and (found := self._start.match(prompt)):
            start = found.end()
        if self.after and (found := self._backward_end.match(prompt[::-1])):
            end -= found.end()
        return (start, end) if UNSPACED_WORD.search(prompt[start:end]) else (0, len(prompt))

    @cached_property
    def _start(self) -> re.Pattern[str]:
        return _pattern(self.before, CLOSING)

    @cached_property
    def _backward_end(self) -> re.Pattern[str]:
        return _pattern(_backwards(self.after), SPACE)

    def to_json(self) -> dict[str, list[str]]:
        """The words found, each wrapper as one text."""
        return {
            "before": [" ".join(words) for words in self.before],
            "after": [" ".join(words) for words in self.after],
        }


NO_WRAPPERS = Wrappers()


def find_wrappers(datasets: Iterable[list[str]]) -> Wrappers:
    """Finds the wrappers of each data set; prompts of all data sets are then searched for all of them.

    Args:
        datasets: Prompts of each data set, some thousands at most.
    """
    before: set[Path] = set()
    after: set[Path] = set()
    for prompts in datasets:
        distinct = list(dict.fromkeys(prompts))
        before.update(_common_starts([_words(prompt[:MOST_CHARACTERS]) for prompt in distinct]))
        ends = _common_starts([_words(prompt[-MOST_CHARACTERS:])[::-1] for prompt in distinct])
        after.update(words[::-1] for words in ends)
    return Wrappers(_longest_first(before), _longest_first(after))


def _words(text: str) -> Path:
    return tuple(UNSPACED_WORD.findall(text.lower()))


def _longest_first(paths: set[Path]) -> tuple[Path, ...]:
    return tuple(sorted(paths, key=lambda words: (-len(words), words)))


def _common_starts(rows: list[Path]) -> list[Path]:
    """The starts that the rows have in common, each of many rows; none where few rows have one."""
    least = max(FEWEST_PROMPTS, LEAST_SHARE * len(rows))
    short = LEAST_OF_SHORT * len(rows)
    starts = _starts(rows, least)
    found = [start for start, count in starts.items() if count >= short or len(start) >= LONG_WORDS]
    covered = sum(any(row[: len(start)] == start for start in found) for row in rows)
    return found if covered >= LEAST_COVERED * len(rows) else []


def _starts(rows: list[Path], least: float) -> dict[Path, int]:
    """Follows the rows' words from the first on, as a trie: the paths after which rows go apart, and their rows."""
    found = {}
    waiting: list[tuple[Path, list[Path]]] = [((), rows)]
    while waiting:
        path, here = waiting.pop()
        depth = len(path)
        counts = Counter(row[depth] for row in here if len(row) > depth)
        following = [word for word, count in counts.items() if count >= least]
        goes_on = sum(counts[word] for word in following) >= GOES_ON * len(here) and len(following) <= MOST_WAYS
        if depth >= FEWEST_WORDS and (not goes_on or len(following) > 1):
            found[path] = len(here)
        # Before there is a wrapper, any start that recurs may become one.
        if depth < MOST_WORDS and (goes_on or depth < FEWEST_WORDS):
            for word in following:
                waiting.append(((*path, word), [row for row in here if row[depth : depth + 1] == (word,)]))
    return found


def _backwards(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(tuple(word[::-1] for word in words[::-1]) for words in paths)


def _pattern(paths: tuple[Path, ...], behind: str) -> re.Pattern[str]:
    """Matches any of the wrappers at the start of a text, with the characters behind it that are its own."""
    return re.compile(rf"\W*(?:{'|'.join(map(_joined, paths))}){behind}*", re.IGNORECASE)


def _joined(words: Path) -> str:
    ends_inside_word = "" if UNSPACED.match(words[-1]) else r"(?!\w)"
    return r"\W*".join(map(re.escape, words)) + ends_inside_word
