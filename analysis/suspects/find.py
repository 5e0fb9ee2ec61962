"""Find training samples with a likely wrong answer or broken format, from the loss curves of a sweep.

`analysis.suspects.scores` ranks them. The result is a reading list: how many of its samples are wrong depends on the
data, and an odd or hard sample may be right.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.records.sweep import Sweep, read_sweep
from analysis.suspects.scores import Suspicion, TrialLosses, suspicions
from trainables.data.answer_text import answer_kind
from trainables.data.samples import Item
from trainables.errors import UserError
from trainables.storage.json_numbers import number_or_nan
from trainables.storage.layout import CACHE_FOLDER, TRAIN_FILE

SHOWN = 20
LISTED = 5  # below a leaderboard
SHOWN_CHARACTERS = 160


@dataclass(frozen=True)
class Suspect:
    """A training sample to look at: its scores and its text."""

    found: Suspicion
    prompt: str
    response: str

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self.found), "prompt": self.prompt, "response": self.response}


def find_suspects(folder: str | Path, top: int = SHOWN, kind_key: str | None = None) -> list[Suspect]:
    """Finds the most suspect training samples of a sweep.

    Args:
        folder: The sweep's folder.
        top: Number of samples.
        kind_key: A metadata key with the kind of answer; None to classify the answer by its form.

    Returns:
        The most suspect first; fewer than `top` only if fewer samples were trained on.

    Raises:
        UserError: The folder is no sweep's, no trial has a loss curve, the tokenized training set is missing, or its
            samples lack the key.
    """
    sweep = read_sweep(folder)
    texts = read_texts(sweep.folder / CACHE_FOLDER / TRAIN_FILE)
    kinds = {name: _kind(text, kind_key) for name, text in texts.items()}
    epochs = [
        losses
        for trial in sweep.trials
        if trial.state != "diverged" and (losses := read_trial_losses(sweep, trial.trial_id))
    ]
    if not epochs:
        raise UserError(str(folder), "must hold a trial with a loss curve", "none", "run trials to their end first")
    found = suspicions(epochs, kinds)[:top]
    return [Suspect(one, texts[one.id].prompt, texts[one.id].response) for one in found]


def suspects_or_reason(folder: str | Path, top: int) -> tuple[list[Suspect], str | None]:
    """Like `find_suspects`, but returns an error's text in place of raising it."""
    try:
        return find_suspects(folder, top), None
    except UserError as error:
        return [], str(error)


def read_trial_losses(sweep: Sweep, trial_id: str) -> TrialLosses | None:
    """Reads a trial's training losses sample by sample; None if it has no curve."""
    records, _ = sweep.curve(trial_id)
    ids = [name for record in records for name in record["ids"]]
    if not ids:
        return None
    nll = [number_or_nan(value) for record in records for value in record["item_nll"]]
    tokens = np.array([count for record in records for count in record["item_tokens"]], dtype=np.float64)
    # Base losses are optional in a curve; they count only if every step has them.
    base = [number_or_nan(value) for record in records for value in record.get("item_base_nll") or []]
    return TrialLosses(ids, np.array(nll), tokens, np.array(base) if len(base) == len(ids) else None)


def read_texts(path: Path) -> dict[str, Item]:
    """Reads prompt, response and metadata of every sample, by id, from a tokenized set."""
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all().select(["id", "prompt", "response", "meta"])
            rows = table.to_pylist()
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        remedy = "run the sweep again with --resume, or restore its cache folder"
        raise UserError(str(path), "must be the tokenized training set", error, remedy) from error
    return {row["id"]: Item(row["id"], row["prompt"], row["response"], json.loads(row["meta"])) for row in rows}


def lines(place: int, suspect: Suspect) -> list[str]:
    """A suspect for the terminal: its figures, the end of its prompt, and its answer."""
    found = suspect.found
    base = "" if found.base_nll is None else f"base-model loss {found.base_nll:.2f}; "
    figures = f"{base}mean over {found.trials} trials; outlier score {found.score:.1f}"
    prompt = " ".join(suspect.prompt.split())
    shown = prompt if len(prompt) <= SHOWN_CHARACTERS else f"…{prompt[-SHOWN_CHARACTERS:]}"
    return [
        f"{place:3d}. {found.id}: loss {found.nll:.2f}, {found.excess_nats:.2f} above similar samples "
        f"(answer type: {found.kind}; {figures})",
        f"     {shown}",
        f"     answer: {' '.join(suspect.response.split())}",
    ]


def _kind(text: Item, key: str | None) -> str:
    if key is None:
        return answer_kind(text.response)
    if key not in text.meta:
        known = ", ".join(sorted(text.meta)) or "none"
        raise UserError("--kind-key", f"every sample must have it, {text.id} has not", key, f"its keys are: {known}")
    return str(text.meta[key])
