"""Samples that depart from the rest: in the format that most samples have, or in the length of the response."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from trainables.data.audit.ngrams import Flat
from trainables.data.audit.normalization import hash64
from trainables.data.samples import Sample

# Ours: with fewer samples one odd one is no twentieth.
FEWEST_SAMPLES = 20
COMMON, RARE = 0.95, 0.05
MOST_LABELS = 16
MOST_NAMES = 50_000
MOST_CUE_CHARACTERS = 40
SEARCHED_CHARACTERS = 100_000

# Tags of the wrappers and chat templates in use, which no plain text holds.
TAG = re.compile(
    r"\[/?INST\]|<</?SYS>>|</?s>|<(?:human|bot|user|assistant|system)>:?|<(?:start|end)_of_turn>"
    r"|<\|(?:im_start|im_end|im_sep|user|assistant|system|end|eot_id|start_header_id|end_header_id|endoftext"
    r"|begin_of_text|end_of_text|endofprompt)\|>"
    r"|^(?:#{1,4} ?(?:Instruction|Input|Response|Human|Assistant|User|System|Question|Answer)"
    r"|Human|Assistant|User|Bot|AI|System|USER|ASSISTANT|SYSTEM):",
    re.MULTILINE,
)
LABEL = re.compile(r"^[ \t]*([^\W\d_][\w ]{0,29}:)(?=\s|$)", re.MULTILINE)


class Marker(NamedTuple):
    """One feature of a sample's format.

    Attributes:
        words: What it is, as in "has …".
        is_tag: Whether it is a departure too when few samples have it, as with the tags of another wrapper.
    """

    words: str
    is_tag: bool


def markers(sample: Sample) -> set[Marker]:
    """The features of a sample's format: its roles, labels at line starts, wrapper tags, and the prompt's last cue."""
    prompt, response = sample.prompt[-SEARCHED_CHARACTERS:], sample.response[:SEARCHED_CHARACTERS]
    found = {Marker(f"roles {_roles(sample)}", False)}
    for place, text in (("prompt", prompt), ("response", response)):
        found |= {Marker(f"{tag.strip()!r} in the {place}", True) for tag in set(TAG.findall(text))}
    labels = list(dict.fromkeys(LABEL.findall(prompt)))
    found |= {Marker(f"a line {label!r} in the prompt", False) for label in labels[-MOST_LABELS:]}
    if label := LABEL.match(response):
        found.add(Marker(f"a response that begins {label.group(1)!r}", False))
    last = prompt.rstrip().rpartition("\n")[2].strip()
    if last.endswith(":") and len(last) <= MOST_CUE_CHARACTERS:
        found.add(Marker(f"a prompt that ends {last!r}", False))
    return found


def _roles(sample: Sample) -> str:
    """The roles in order, turns that come again written once."""
    roles = [str(message["role"])[:MOST_CUE_CHARACTERS] for message in sample.messages]
    head = roles[:1] if roles[0] == "system" else []
    turns = list(dict.fromkeys(zip(roles[len(head) :: 2], roles[len(head) + 1 :: 2], strict=False)))
    odd = roles[-1:] if (len(roles) - len(head)) % 2 else []
    return ", ".join([*head, *(role for turn in turns[:3] for role in turn), *odd])


class MarkerCodes:
    """Markers as numbers of 64 bits; the lowest bit says whether it is a tag."""

    def __init__(self) -> None:
        self._codes: dict[Marker, int] = {}
        self._fresh: dict[int, str] = {}

    def taken(self) -> dict[int, str]:
        """Names of the codes that were first seen since this was last asked."""
        names, self._fresh = self._fresh, {}
        return names

    def code(self, marker: Marker) -> int:
        """The number of a marker, the same in every process."""
        if (known := self._codes.get(marker)) is not None:
            return known
        code = hash64(marker.words) & ~1 | marker.is_tag
        if len(self._codes) < MOST_NAMES:
            self._codes[marker] = code
            self._fresh[code] = marker.words
        return code


def departures(codes: Flat, names: dict[int, str]) -> dict[int, str]:
    """Rows that lack what nearly all others have, or have a tag that hardly any other has, and what that is.

    Args:
        codes: The markers of each sample, each at most once.
        names: What the markers are.
    """
    samples = len(codes.ends)
    if samples < FEWEST_SAMPLES:
        return {}
    reasons: dict[int, list[str]] = defaultdict(list)
    row_of = codes.row_of
    values, counts = np.unique(codes.values, return_counts=True)
    for value in values[(counts >= COMMON * samples) & (counts < samples)]:
        having = row_of[codes.values == value]
        share = f"{len(having) / samples:.1%}"
        for row in np.setdiff1d(np.arange(samples), having):
            reasons[int(row)].append(f"not {names[int(value)]}, as {share} have")
    rare = values[(counts < RARE * samples) & (values & np.uint64(1) == 1)]
    for at in np.flatnonzero(np.isin(codes.values, rare)):
        name = names.get(int(codes.values[at]), "a tag of its own")
        reasons[int(row_of[at])].append(f"{name}, as few others have")
    return {row: "; ".join(found) for row, found in reasons.items()}


# Ours. The usual cut is 3.5 (Iglewicz & Hoaglin 1993), for lengths that are normal; those of answers have long tails.
MOST_DEVIATIONS = 6.0


LEAST_RATIO = 8.0


LEAST_SPREAD = 0.25  # of log lengths: in data of equal lengths a response is no outlier for one word more


FEWEST_LENGTHS = 50


MAD_TO_DEVIATION = 1.4826  # of a normal distribution


def unusual_lengths(characters: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows whose log length is far from the median, in robust deviations and in plain ratio; and the median length.

    Args:
        characters: (samples,) lengths of the responses, 1 and up.
    """
    if len(characters) < FEWEST_LENGTHS:
        return np.empty(0, np.int64), 0.0
    logs = np.log(characters)
    median = np.median(logs)
    distance = np.abs(logs - median)
    spread = max(MAD_TO_DEVIATION * float(np.median(distance)), LEAST_SPREAD)
    far = (distance > MOST_DEVIATIONS * spread) & (distance > np.log(LEAST_RATIO))
    return np.flatnonzero(far), float(np.exp(median))
