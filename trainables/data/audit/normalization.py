"""Texts as the audit compares them: normalized, as words, as hashes; and text that was decoded wrongly."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Iterable

import numpy as np

from trainables.data.defects import excerpt

# Ours. A sample beyond this is too long for any model; its tail is compared byte by byte, not word by word.
MAX_CHARACTERS = 1_000_000
NEIGHBOURS = 3
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
AROUND = 20
WORD = re.compile(r"\w+")
# Scripts without spaces between words: there a character stands for itself.
UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
UNSPACED_WORD = re.compile(rf"{UNSPACED.pattern}|[^\W{UNSPACED.pattern[1:-1]}]+")
# What `ftfy.fixes.remove_control_chars` takes out; C1 controls count as mojibake, as they do in ftfy.
CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")
REPLACEMENT = "\ufffd"


def normalize(text: str) -> str:
    """A text without what makes no difference to a reader: case, white space, compatibility forms (Unicode NFKC)."""
    head, tail = text[:MAX_CHARACTERS], text[MAX_CHARACTERS:]
    if not head.isascii():
        head = unicodedata.normalize("NFKC", head)
    return " ".join(head.casefold().split()) + tail


def words(normalized: str) -> list[str]:
    """The words and figures of a normalized text, without punctuation; of a very long one, of its head."""
    head = normalized[:MAX_CHARACTERS]
    return (UNSPACED_WORD if not head.isascii() and UNSPACED.search(head) else WORD).findall(head)


def hash64(text: str) -> int:
    """64 bits of BLAKE2b: among a million texts two differing ones are taken for equal once in 37 million files."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def word_hashes(texts: Iterable[str]) -> np.ndarray:
    """(words,) uint64: hashes of words, the same in every process, well mixed."""
    return mixed(np.fromiter((zlib.crc32(word.encode()) for word in texts), np.uint64))


def mixed(values: np.ndarray) -> np.ndarray:
    """uint64 values spread over all bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def garbled(text: str) -> str | None:
    """An excerpt of mojibake (UTF-8 read as another encoding) or of a replacement character, None where there is none.

    What looks like mojibake is ftfy's judgement. It is asked about the characters beyond ASCII and their neighbours
    alone, for every sign that it knows holds one, and this takes a tenth of the time.
    """
    if text.isascii():
        return None
    from ftfy.badness import BADNESS_RE  # here, because most data is ASCII and small data should not wait for it

    if (at := text.find(REPLACEMENT)) >= 0:
        return _around(text, at, at + 1)
    starts = [max(0, run.start() - NEIGHBOURS) for run in BEYOND_ASCII.finditer(text)]
    ends = [run.end() + NEIGHBOURS for run in BEYOND_ASCII.finditer(text)]
    if not BADNESS_RE.search("\n".join([text[start:end] for start, end in zip(starts, ends, strict=True)])):
        return None
    for start, end in zip(starts, ends, strict=True):
        if found := BADNESS_RE.search(text, start, end):
            return _around(text, found.start(), found.end())
    return None


def control_character(text: str) -> str | None:
    """An excerpt around the first invisible control character, None where there is none."""
    found = CONTROL.search(text)
    return found and _around(text, found.start(), found.end())


def _around(text: str, start: int, end: int) -> str:
    return excerpt(text[max(0, start - AROUND) : end + AROUND])
