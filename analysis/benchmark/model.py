"""A model that a benchmark scores: its name, the key of its scores, and how it is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainables.config.data_sections import DataConfig, HeldoutConfig
from trainables.storage.checksums import sha256_of

if TYPE_CHECKING:
    from torch import nn

# Of a model's folder: what its scores depend on. A README or a license may change.
SCORED_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")


class Loaded(NamedTuple):
    """A model in memory."""

    model: nn.Module
    tokenizer: Any
    data: DataConfig  # how its samples are rendered
    batch_tokens: int = HeldoutConfig.model_fields["batch_tokens"].default
    answer_batch_size: int = HeldoutConfig.model_fields["answer_batch_size"].default


@dataclass(frozen=True)
class Model:
    """A model to score.

    Attributes:
        label: What people call it: `SWEEP:TRIAL:STEP`, a folder, or a hub id.
        identity: Where it is, in a text. What is there may change: then its key does.
        key: Hash of all that its scores depend on.
        load: Loads it.
        facts: What is stored of it beside the scores, JSON values: `precision`; of a checkpoint also `quantize`,
            `sweep`, `sweep_id`, `place`, `started` (of the sweep), `trial_id`, `step`, `params`, and
            `learnt_heldout`, whether it was trained on its sweep's held-out items.
    """

    label: str
    identity: str
    key: str
    load: Callable[[], Loaded] = field(repr=False)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Name of its file in the storage."""
        return f"{short_hash([self.identity, self.key])}.json"


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a model's folder that its scores depend on, by name."""
    found = {path for pattern in SCORED_FILES for path in folder.glob(pattern) if path.is_file()}
    return {path.name: sha256_of(path) for path in sorted(found)}


def short_hash(value: Any) -> str:
    """A name for JSON values, the same for equal ones."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
