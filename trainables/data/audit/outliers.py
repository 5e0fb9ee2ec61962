"""Outliers of a data set: samples without the common format, and responses of unusual length."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from trainables.data.audit.ngrams import Flat
from trainables.data.audit.normalization import hash64
from trainables.data.samples import Sample

# Ours: a marker is common from 0.95 of the samples; among fewer than 20, one sample is more than the other 0.05.
FEWEST_SAMPLES = 20
COMMON, RARE = 0.95, 0.05
# Limits on memory and time, for hostile or generated data.
MOST_LABELS = 16
MOST_NAMES = 50_000
MOST_CUE_CHARACTERS = 40
SEARCHED_CHARACTERS = 100_000
FEWEST_LENGTHS = 50
# Ours. The usual cut is 3.5 (Iglewicz & Hoaglin 1993), for lengths that are normal; those of answers have long tails.
MOST_DEVIATIONS = 6.0
LEAST_RATIO = 8.0
LEAST_SPREAD = 0.25  # of log lengths: where all lengths are equal, one more word is no outlier
MAD_TO_DEVIATION = 1.4826  # median absolute deviation to standard deviation, for a normal distribution

# Tags of the wrappers and chat templates in use, which plain text does not hold.
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
        description: The feature in words, such as "a line 'Note:' in the prompt".
        is_tag: Whether a sample departs by having it where few others do, as with the tags of another wrapper.
    """

    description: str
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
    """The roles in order; repeated turns are listed once, so that longer conversations have the same format."""
    if not sample.messages:
        return "none"
    roles = [str(message["role"])[:MOST_CUE_CHARACTERS] for message in sample.messages]
    head = roles[:1] if roles[0] == "system" else []
    turns = list(dict.fromkeys(zip(roles[len(head) :: 2], roles[len(head) + 1 :: 2], strict=False)))
    odd = roles[-1:] if (len(roles) - len(head)) % 2 else []
    return ", ".join([*head, *(role for turn in turns[:3] for role in turn), *odd])


class MarkerCodes:
    """Encodes markers as 64-bit numbers whose lowest bit marks tags."""

    def __init__(self) -> None:
        self._codes: dict[Marker, int] = {}
        self._new_names: dict[int, str] = {}

    def pop_new_names(self) -> dict[int, str]:
        """The descriptions of codes that were new since the last call."""
        names, self._new_names = self._new_names, {}
        return names

    def code(self, marker: Marker) -> int:
        """The code of a marker, the same in every process."""
        if (known := self._codes.get(marker)) is not None:
            return known
        code = hash64(marker.description) & ~1 | marker.is_tag
        if len(self._codes) < MOST_NAMES:
            self._codes[marker] = code
            self._new_names[code] = marker.description
        return code


def departures(codes: Flat, names: dict[int, str]) -> dict[int, str]:
    """Finds rows that lack a common marker or have a rare tag.

    Args:
        codes: The markers of each sample, each at most once.
        names: Descriptions of the markers.

    Returns:
        The reasons in words, by row.
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


def unusual_lengths(characters: np.ndarray) -> tuple[np.ndarray, float]:
    """Finds responses whose length is far from the median, in robust deviations of log length and in plain ratio.

    Args:
        characters: (samples,) lengths of the responses, 1 and up.

    Returns:
        The rows, and the median length.
    """
    if len(characters) < FEWEST_LENGTHS:
        return np.empty(0, np.int64), 0.0
    logs = np.log(characters)
    median = np.median(logs)
    distance = np.abs(logs - median)
    spread = max(MAD_TO_DEVIATION * float(np.median(distance)), LEAST_SPREAD)
    far = (distance > MOST_DEVIATIONS * spread) & (distance > np.log(LEAST_RATIO))
    return np.flatnonzero(far), float(np.exp(median))
