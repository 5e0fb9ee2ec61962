"""What is edited between a driver's death and the next one's start, and the key that the refusal must name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load, save

from sweeps.plan.plan import MODELS_CACHE
from trainables.config.sections import ModelConfig
from trainables.models.pretrained import resolve_model

DATA = Path(__file__).resolve().parents[2] / "conf" / "data" / "demo"
INPUTS = "inputs"  # folder beside the sweep's: copies of the model and the data


class Edit(NamedTuple):
    """An edit that no resume may accept.

    Attributes:
        file: Path below the folder of the sweep and its inputs.
        changed: The file's new content, from its present one.
        named: The place that the error must name.
    """

    file: str
    changed: Callable[[bytes], bytes]
    named: str


def _replaced(pattern: str, by: str) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        text, count = re.subn(pattern, by, content.decode(), count=1, flags=re.MULTILINE)
        assert count, f"{pattern} is not there to be edited"
        return text.encode()

    return changed


def _scaled(content: bytes) -> bytes:
    return save({name: (tensor * 1.5).contiguous() for name, tensor in load(content).items()}, {"format": "pt"})


def _reordered(content: bytes) -> bytes:
    first, second, *rest = content.splitlines(keepends=True)
    return b"".join([second, first, *rest])


def _other_norm(content: bytes) -> bytes:
    return json.dumps({**json.loads(content), "rms_norm_eps": 0.5}).encode()


CONFIG, ANSWER = "chaos/sweep.yaml", (r'"response": "', '"response": "changed ')
EDITS = {
    "batch_size": Edit(CONFIG, _replaced(r"batch_size: 4$", "batch_size: 2"), "training.batch_size"),
    "weight_decay": Edit(CONFIG, _replaced(r"weight_decay: .*$", "weight_decay: 0.3"), "training.weight_decay"),
    "seed": Edit(CONFIG, _replaced(r"^seed: .*$", "seed: 7"), "seed"),
    "fewer_samples": Edit(CONFIG, _replaced(r"  limit: 80$", "  limit: 40"), "data.limit"),
    "higher_lr": Edit(CONFIG, _replaced(r"high: 0.01$", "high: 0.02"), "space.peak_lr.high"),
    "weights": Edit(f"{INPUTS}/model/model.safetensors", _scaled, "model.name"),
    "model_config": Edit(f"{INPUTS}/model/config.json", _other_norm, "model.name"),
    "training_answers": Edit(f"{INPUTS}/train.jsonl", _replaced(*ANSWER), "data.train"),
    "training_order": Edit(f"{INPUTS}/train.jsonl", _reordered, "data.train"),
    "heldout_answers": Edit(f"{INPUTS}/tables.jsonl", _replaced(*ANSWER), "heldout.areas.tables.path"),
}


def own_inputs(place: Path) -> list[str]:
    """Copies model and data, which will be edited, into the sweep's `place`; returns the overrides that name them."""
    inputs = place / INPUTS
    if not inputs.exists():
        inputs.mkdir()
        shutil.copytree(resolve_model(ModelConfig(name="random:tiny-llama"), MODELS_CACHE), inputs / "model")
        for file in ("train.jsonl", "heldout/tables.jsonl"):
            shutil.copy(DATA / file, inputs)
    files = {"data.train": "train.jsonl", "heldout.areas.tables.path": "tables.jsonl", "model.name": "model"}
    return [f"{key}={inputs / file}" for key, file in files.items()]


class Edited:
    """Holds a file edited while the block runs, and restores it to the byte."""

    def __init__(self, edit: Edit, place: Path) -> None:
        self._edit, self._path = edit, place / edit.file
        self._before = self._path.read_bytes()

    def __enter__(self) -> Edit:
        self._path.write_bytes(self._edit.changed(self._before))
        return self._edit

    def __exit__(self, *_: object) -> None:
        self._path.write_bytes(self._before)
