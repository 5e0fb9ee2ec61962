"""Texts as the audit compares them: normalized, as words, as hashes. Also detects text that was decoded wrongly."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Iterable

import numpy as np

from trainables.data.defects import excerpt

# Ours. A longer sample fits no model; its tail is compared byte by byte, not word by word.
MAX_CHARACTERS = 1_000_000
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
MARGIN = 3  # characters around those beyond ASCII that ftfy's patterns look at
SHOWN_AROUND = 20
WORD = re.compile(r"\w+")
# Scripts without spaces between words: there a character stands for itself.
UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
UNSPACED_WORD = re.compile(rf"{UNSPACED.pattern}|[^\W{UNSPACED.pattern[1:-1]}]+")
# What `ftfy.fixes.remove_control_chars` takes out; C1 controls count as mojibake, as they do in ftfy.
CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")
REPLACEMENT = "\ufffd"


def normalize(text: str) -> str:
    """Removes differences that a reader does not see: case, white space, compatibility forms (Unicode NFKC)."""
    head, tail = text[:MAX_CHARACTERS], text[MAX_CHARACTERS:]
    if not head.isascii():
        head = unicodedata.normalize("NFKC", head)
    return " ".join(head.casefold().split()) + tail


def words(normalized: str) -> list[str]:
    """The words and figures in the first `MAX_CHARACTERS` of a normalized text, without punctuation."""
    head = normalized[:MAX_CHARACTERS]
    return (UNSPACED_WORD if not head.isascii() and UNSPACED.search(head) else WORD).findall(head)


def hash64(text: str) -> int:
    """64 bits of BLAKE2b; a million texts have a collision in one of 37 million files."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def word_hashes(texts: Iterable[str]) -> np.ndarray:
    """(words,) uint64: well mixed hashes of words, the same in every process."""
    # CRC-32 is in C and takes a fraction of BLAKE2b's time on short words.
    return mixed(np.fromiter((zlib.crc32(word.encode()) for word in texts), np.uint64))


def mixed(values: np.ndarray) -> np.ndarray:
    """Mixes the bits of uint64 values (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def garbled(text: str) -> str | None:
    """An excerpt of mojibake (UTF-8 read as another encoding, by ftfy's patterns) or of a replacement character."""
    if text.isascii():
        return None
    from ftfy.badness import BADNESS_RE  # here: most data is ASCII and should not wait for this import

    if (at := text.find(REPLACEMENT)) >= 0:
        return _around(text, at, at + 1)
    # Each of ftfy's patterns has a character beyond ASCII. Searching only around these takes a tenth of the time.
    starts = [max(0, run.start() - MARGIN) for run in BEYOND_ASCII.finditer(text)]
    ends = [run.end() + MARGIN for run in BEYOND_ASCII.finditer(text)]
    if not BADNESS_RE.search("\n".join([text[start:end] for start, end in zip(starts, ends, strict=True)])):
        return None
    for start, end in zip(starts, ends, strict=True):
        if found := BADNESS_RE.search(text, start, end):
            return _around(text, found.start(), found.end())
    return None


def control_character(text: str) -> str | None:
    """An excerpt around the first invisible control character, or None."""
    found = CONTROL.search(text)
    return found and _around(text, found.start(), found.end())


def _around(text: str, start: int, end: int) -> str:
    return excerpt(text[max(0, start - SHOWN_AROUND) : end + SHOWN_AROUND])
