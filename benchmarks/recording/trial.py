"""Trains a trial and keeps its numbers; the part of `benchmarks.recording` that imports torch."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.recording.curves import PARAMS
from trainables.config.sections import ModelConfig, TrainingConfig
from trainables.config.trial_spec import TrialSpec
from trainables.data.dataset import TokenizedSet
from trainables.data.epoch import epoch_order
from trainables.evaluation.heldout import item_losses
from trainables.models.base_model import load_base
from trainables.training.loop import Hooks, Loop, Outcome, TrialRun

BATCH_TOKENS = 16384


class Recorder:
    """A warm base model that trains trials and keeps their numbers; `options` are those of `record`."""

    def __init__(self, options: Namespace) -> None:
        torch.set_num_threads(1)
        self.prepared = json.loads((options.data / "prepared.json").read_text())
        model = self.prepared["model"]
        config = ModelConfig(name=model, method=options.method)
        self.training = TrainingConfig(batch_size=options.batch_size, checkpoints_at=options.points)
        self.config = SimpleNamespace(training=self.training, model=config)
        self.base = load_base(model, config, "auto", "cuda" if torch.cuda.is_available() else "cpu")
        self.sets = {path.stem: TokenizedSet(str(path)) for path in sorted(options.data.glob("*.arrow"))}
        self.areas = [name for name in self.sets if name.startswith("heldout-")]
        self.slots = options.slots
        untouched = self.base.untouched()
        self.base_heldout = self.heldout(untouched)
        self.base_losses = {name: self.losses(untouched, name) for name in self.sets if name not in self.areas}

    def losses(self, model: Any, name: str) -> np.ndarray:
        """Mean loss of each item of a set."""
        return np.array([loss.nll for loss in item_losses(model, self.sets[name], BATCH_TOKENS)], np.float32)

    def heldout(self, model: Any) -> np.ndarray:
        """Mean loss of each item, by area in order of name."""
        return np.concatenate([self.losses(model, name) for name in self.areas])

    def record_all(self, next_job: Callable[[], dict[str, Any] | None], done: Callable[[dict[str, Any]], None]) -> None:
        """Trains trials, several at once, until there are no more.

        Args:
            next_job: Returns a trial's study, data, seed and params; None to begin no other.
            done: Called with each ended trial: `trial`, a record for `stack`, and `common`, the shared arrays.
        """
        loop, running, is_open = Loop(self.base), list[Recording](), True
        loop.set_slots(self.slots)
        while is_open or running:
            while is_open and loop.free:
                job = next_job()
                is_open = job is not None
                if job:
                    running.append(Recording(self, **job))
                    loop.join(running[-1].trial_run)
            for ended in loop.step() if running else []:
                recording = next(one for one in running if one.trial_run is ended.trial_run)
                running.remove(recording)
                if ended.error:
                    raise ended.error
                assert ended.outcome is not None
                done({"trial": recording.trial(ended.outcome), "common": self.common(recording.data)})

    def common(self, data: str) -> dict[str, Any]:
        """Arrays that the trials of one training set share."""
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


class Recording:
    """A trial in training and its record; the arguments are those of a `Job`."""

    def __init__(self, recorder: Recorder, study: str, data: str, seed: int, params: dict[str, float]) -> None:
        self.data, self._training = data, recorder.training
        self._samples = recorder.sets[data]
        self._fields = {"study": study, "data": data, "seed": seed, "params": [params[name] for name in PARAMS]}
        self._steps: list[Any] = []
        self._points: list[np.ndarray] = []
        self._items = len(recorder.base_heldout)
        hooks = Hooks(
            steps=self._steps.extend,
            checkpoint=lambda step, model: self._points.append(recorder.heldout(model)),
            should_stop=bool,
        )
        spec = TrialSpec(trial_id="t", seed=seed, params=params)
        self.trial_run = TrialRun(self._samples, spec, recorder.config, hooks)  # type: ignore[arg-type]

    def trial(self, outcome: Outcome) -> dict[str, Any]:
        size = len(self._samples)
        return {
            **self._fields,
            "state": outcome.state,
            "order": epoch_order(size, self.trial_run.spec.seed).astype(np.int16),
            "item_nll": padded([loss for step in self._steps for loss in step.item_nll], (size,)),
            "grad_norm": padded([step.grad_norm for step in self._steps], (outcome.steps_planned,)),
            "heldout": padded(self._points, (len(self._training.checkpoints_at), self._items)),
        }


def padded(values: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Pads with NaN after the end of the trial."""
    whole = np.full(shape, np.nan, np.float32)
    if values:
        whole[: len(values)] = values
    return whole
