"""The warm state of a lane: what stays loaded between its jobs."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.checkpoints.async_writer import Writer
from trainables.config.trial_spec import LaneConfig
from trainables.data.dataset import TokenizedSet
from trainables.evaluation import base_losses, heldout
from trainables.evaluation.base_losses import BaseLosses
from trainables.evaluation.heldout import ItemScore
from trainables.evaluation.scorers import load_scorers
from trainables.evaluation.scoring_workers import scoring_workers
from trainables.lane.store_sync import LaneStore
from trainables.models.base_model import Base, load_base
from trainables.optim.step import PassRanOutError
from trainables.optim.workers import World
from trainables.reliability.preemption import Preemption
from trainables.storage.json_numbers import json_line
from trainables.storage.object_store import StoreError
from trainables.storage.working_copy import WorkingCopy
from trainables.training import found_limit
from trainables.training.loop import Loop

logger = logging.getLogger(__name__)


class LaneState:
    """What stays loaded between the jobs of a lane: the base model, the tokenized data, the scorers.

    Args:
        settings: The lane's settings.
        world: The lane's workers.
        base: The base model.
        data: The tokenized training set.
        areas: The tokenized held-out areas, by name.
        scorers: Scorers of each area, by name.
        store: The worker's copy of the sweep; by default the sweep's folder itself.
        preemption: Tells whether the node is about to go; by default it never is.
    """

    def __init__(
        self,
        settings: LaneConfig,
        world: World,
        base: Base,
        data: TokenizedSet,
        areas: dict[str, TokenizedSet],
        scorers: dict[str, dict[str, Any]],
        store: LaneStore | None = None,
        preemption: Preemption | None = None,
    ) -> None:
        self.settings, self.world, self.base, self.data = settings, world, base, data
        self.areas, self.scorers = areas, scorers
        self.store = store or LaneStore(WorkingCopy(Path(settings.output_dir)))
        self.preemption = preemption or Preemption()
        self.loop, self.writer = Loop(base, world), Writer()
        self._base_losses: BaseLosses | None = None

    @classmethod
    def load(
        cls,
        settings: LaneConfig,
        device: torch.device,
        world: World,
        store: LaneStore | None = None,
        preemption: Preemption | None = None,
    ) -> LaneState:
        """Load the base model, the tokenized data and the scorers, once for all jobs.

        Args:
            settings: The lane's settings.
            device: Where the base model goes.
            world: The lane's workers.
            store: As for the constructor.
            preemption: As for the constructor.
        """
        settings = found_limit.with_found(settings, world)
        return cls(
            settings=settings,
            world=world,
            base=load_base(
                settings.model_path,
                settings.model,
                settings.training.precision,
                device,
                gradient_checkpointing=settings.training.gradient_checkpointing,
                sharded=settings.sharded,
                compiles=settings.training.compile,
            ),
            data=TokenizedSet(settings.tokenized),
            areas={name: TokenizedSet(path) for name, path in settings.tokenized_areas.items()},
            scorers={name: load_scorers(area.scorers) for name, area in settings.heldout.areas.items()},
            store=store,
            preemption=preemption,
        )

    def score(self, model: nn.Module, area: str, *, with_answers: bool) -> list[ItemScore]:
        """Score every item of an area; `with_answers` also generates and scores answers. Collective."""
        with scoring_workers(model, self.world) as world:
            return heldout.score_area(
                model,
                self.base.tokenizer,
                self.areas[area],
                area,
                self.settings.heldout,
                self.scorers[area],
                with_answers=with_answers,
                world=world,
            )

    def lines(self, area: str, step: int, scores: list[ItemScore]) -> str:
        """Format scores as lines of `heldout.jsonl`; items of one `group` share a context."""
        groups = (self.areas[area].group(index) for index in range(len(scores)))
        return "".join(
            json_line({"step": step, **asdict(score), "group": group})
            for score, group in zip(scores, groups, strict=True)
        )

    def with_heldout_items(self) -> TokenizedSet:
        """The training samples, followed by the items of all areas that select."""
        areas = (self.settings.tokenized_areas[name] for name in self.settings.heldout.weights)
        return TokenizedSet(self.settings.tokenized, *areas)

    def base_losses(self) -> BaseLosses | None:
        """The base model's losses on the training set; None until the job that computes them is done.

        All workers call this together and get the same answer.
        """
        if self._base_losses is None:
            with self.world.all_or_none():
                self.store.fetch_missing(base_losses.FILE)
                found = BaseLosses.read(Path(self.settings.output_dir) / base_losses.FILE)
            if self.world.any(found is None):
                return None
            self._base_losses = found
        return self._base_losses

    def learn_from(self, error: Exception) -> None:
        """Keep, for the lane's next start, the smaller micro-batches that an error asks for; raises nothing."""
        if not isinstance(error, PassRanOutError) or not error.half:
            return
        try:
            found_limit.keep(Path(self.settings.output_dir), error.half)
            self.store.upload(found_limit.FILE)
        except (OSError, StoreError) as unwritten:  # must not replace the error, which has the remedy
            logger.warning("the size of micro-batches that may fit could not be kept: %s", unwritten)
        else:
            logger.warning("memory ran out: micro-batches have at most %d tokens from the next start on", error.half)

    def recover(self) -> None:
        """Drop all trials and free memory after a job that failed."""
        self.loop.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
