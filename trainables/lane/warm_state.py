"""What stays warm in a lane between its jobs: the model, the tokenized data, the scorers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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
from trainables.lane.store_sync import LaneStore
from trainables.lane.trial_files import json_line
from trainables.models.base_model import Base, load_base
from trainables.optim.workers import World
from trainables.reliability.preemption import Preemption
from trainables.storage.working_copy import WorkingCopy
from trainables.training.loop import Loop


@dataclass
class LaneState:
    """Everything that stays warm between the jobs of a lane."""

    settings: LaneConfig
    world: World
    base: Base
    data: TokenizedSet
    areas: dict[str, TokenizedSet]
    scorers: dict[str, dict[str, Any]]
    preemption: Preemption = field(default_factory=Preemption, init=False)
    loop: Loop = field(init=False)
    writer: Writer = field(default_factory=Writer, init=False)
    store: LaneStore = field(init=False)
    _base_losses: BaseLosses | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.loop = Loop(self.base, self.world)
        self.store = LaneStore(WorkingCopy(Path(self.settings.output_dir)))

    @classmethod
    def load(cls, settings: LaneConfig, device: torch.device, world: World) -> LaneState:
        """Loads the base model, the tokenized data and the scorers, once for all jobs."""
        return cls(
            settings=settings,
            world=world,
            base=load_base(
                settings.model_path,
                settings.model,
                settings.training.precision,
                device,
                gradient_checkpointing=settings.training.gradient_checkpointing,
            ),
            data=TokenizedSet(settings.tokenized),
            areas={name: TokenizedSet(path) for name, path in settings.tokenized_areas.items()},
            scorers={name: load_scorers(area.scorers) for name, area in settings.heldout.areas.items()},
        )

    def score(self, model: nn.Module, area: str, *, with_answers: bool) -> list[ItemScore]:
        """Every item's loss, and answer where asked for, of one area."""
        return heldout.score_area(
            model,
            self.base.tokenizer,
            self.areas[area],
            area,
            self.settings.heldout,
            self.scorers[area],
            with_answers=with_answers,
        )

    def lines(self, area: str, step: int, scores: list[ItemScore]) -> str:
        """The scores as lines of `heldout.jsonl`; items of one `group` share a context."""
        groups = (self.areas[area].group(index) for index in range(len(scores)))
        return "".join(
            json_line({"step": step, **asdict(score), "group": group})
            for score, group in zip(scores, groups, strict=True)
        )

    def base_losses(self) -> BaseLosses | None:
        """The base model's losses on the training set; None until the job that computes them is done.

        All workers call this together and get the same answer.
        """
        if self._base_losses is None:
            self.store.need(base_losses.FILE)
            found = BaseLosses.read(Path(self.settings.output_dir) / base_losses.FILE)
            if self.world.any(found is None):
                return None
            self._base_losses = found
        return self._base_losses

    def recover(self) -> None:
        """Puts the lane_state back in order after a job that failed; drops all trials."""
        self.loop.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
