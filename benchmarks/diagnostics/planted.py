"""Planted wrong answers: their share among the most suspect samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.suspects.scores import TrialLosses, suspicions
from benchmarks.diagnostics.recorded import samples_of
from benchmarks.recording.curves import Curves
from benchmarks.recording.data import plant, read_samples
from trainables.data.answer_text import answer_kind

# The samples of the recorded plantings.
TRAIN = Path(__file__).resolve().parents[2] / "conf/data/demo/train.jsonl"


def answer_kinds(curves: Curves, data: str) -> dict[str, str]:
    """The kind of every sample's answer, as `analysis.suspects` finds it by default: from the answer's text.

    Raises:
        ValueError: The planting gives other samples than the recorded ones: the recording was made from other data.
    """
    by_id = {sample.id: sample for sample in read_samples(str(TRAIN))}
    wrong, exchanged = plant([by_id[name] for name in curves.ids.tolist()], int(data.removeprefix("planted-")))
    recorded = sorted(curves.ids[curves.planted[curves.sets.index(data)]].tolist())
    if exchanged != recorded:
        raise ValueError(f"{data} was recorded with other wrong answers, {recorded}, than {TRAIN} gives, {exchanged}")
    return {sample.id: answer_kind(sample.response) for sample in wrong}


def planted_precision(
    curves: Curves, data: str, kinds: Mapping[str, str], trials: int, *, less_base: bool
) -> float | None:
    """Share of planted wrong answers among as many most suspect samples; None with too few trials.

    Args:
        curves: The recording.
        data: A planted training set.
        kinds: Each sample's kind of answer.
        trials: Number of trials to read.
        less_base: As for `suspicions`.
    """
    rows = [trial for trial in np.flatnonzero(curves.data == data).tolist() if curves.state[trial] == "complete"]
    rows.sort(key=lambda trial: -curves.params[trial, 0])
    if len(rows) < trials:
        return None
    planted = set(curves.ids[curves.planted[curves.sets.index(data)]].tolist())
    epochs = []
    for trial in rows[:trials]:
        samples = samples_of(curves, trial)
        ids = curves.ids[curves.order[trial].astype(int)].tolist()
        epochs.append(TrialLosses(ids, samples.nll, samples.tokens, samples.base))
    ranked = suspicions(epochs, kinds, less_base=less_base)
    return float(np.mean([sample.id in planted for sample in ranked[: len(planted)]]))
