"""Trains a trial and keeps its numbers; the part of `benchmarks.record_curves` that needs torch."""

from __future__ import annotations

import json
from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.curves import PARAMS
from trainables.config import ModelConfig, TrainingConfig
from trainables.data import TokenisedSet
from trainables.heldout import item_losses
from trainables.loop import Hooks, train
from trainables.model import load_base
from trainables.order import epoch_order, steps_in_epoch
from trainables.spec import TrialSpec

BATCH_TOKENS = 16384


class Recorder:
    """A warm base model that trains trials and keeps their numbers.

    Args:
        options: Those of `record_curves record`.
    """

    def __init__(self, options: Namespace) -> None:
        torch.set_num_threads(1)
        self.prepared = json.loads((options.data / "prepared.json").read_text())
        model = self.prepared["model"]
        config = ModelConfig(name=model, method=options.method)
        self.training = TrainingConfig(batch_size=options.batch_size, checkpoints_at=options.points)
        self.config = SimpleNamespace(training=self.training, model=config)
        self.base = load_base(model, config, "auto", "cuda" if torch.cuda.is_available() else "cpu")
        self.sets = {path.stem: TokenisedSet(str(path)) for path in sorted(options.data.glob("*.arrow"))}
        self.areas = [name for name in self.sets if name.startswith("heldout-")]
        untouched = self.base.untouched()
        self.base_heldout = self.heldout(untouched)
        self.base_losses = {name: self.losses(untouched, name) for name in self.sets if name not in self.areas}

    def losses(self, model: Any, name: str) -> np.ndarray:
        """Each item's mean loss of one set."""
        return np.array([loss.nll for loss in item_losses(model, self.sets[name], BATCH_TOKENS)], np.float32)

    def heldout(self, model: Any) -> np.ndarray:
        """Each item's mean loss, area after area by name."""
        return np.concatenate([self.losses(model, name) for name in self.areas])

    def record(self, study: str, data: str, seed: int, params: dict[str, float]) -> dict[str, Any]:
        """Trains one trial.

        Returns:
            `trial`, a record for `benchmarks.curves.stack`, and `common`, what trials share.
        """
        samples = self.sets[data]
        steps: list[Any] = []
        points: list[np.ndarray] = []
        hooks = Hooks(
            steps=steps.extend, checkpoint=lambda step, model: points.append(self.heldout(model)), should_stop=bool
        )
        spec = TrialSpec(trial_id="t", seed=seed, params=params)
        outcome = train(self.base, samples, spec, self.config, hooks)  # type: ignore[arg-type]
        number = steps_in_epoch(len(samples), self.training.batch_size)
        trial = {
            "study": study,
            "data": data,
            "seed": seed,
            "state": outcome.state,
            "params": [params[name] for name in PARAMS],
            "order": epoch_order(len(samples), seed).astype(np.int16),
            "item_nll": padded([loss for step in steps for loss in step.item_nll], (len(samples),)),
            "grad_norm": padded([step.grad_norm for step in steps], (number,)),
            "heldout": padded(points, (len(self.training.checkpoints_at), len(self.base_heldout))),
        }
        return {"trial": trial, "common": self.common(data)}

    def common(self, data: str) -> dict[str, Any]:
        """What the trials of one training set share."""
        samples = self.sets[data]
        counts = [int(np.count_nonzero(samples.label_mask(i))) for i in range(len(samples))]
        return {
            "points": np.array(self.training.checkpoints_at),
            "batch_size": self.training.batch_size,
            "areas": tuple(name.removeprefix("heldout-") for name in self.areas),
            "area_of": np.repeat(np.arange(len(self.areas)), [len(self.sets[name]) for name in self.areas]),
            "base_heldout": self.base_heldout,
            "sets": (data,),
            "base_item_nll": self.base_losses[data][None],
            "tokens": np.array(counts, np.int16)[None],
            "planted": np.isin(samples.ids, self.prepared["planted"].get(data, []))[None],
            "ids": np.array(samples.ids),
        }


def padded(values: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    """As far as the trial came; NaN after that."""
    whole = np.full(shape, np.nan, np.float32)
    if values:
        whole[: len(values)] = values
    return whole
