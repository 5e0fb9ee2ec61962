"""A trial's training states on one worker: the whole of them, or its parts of sharded ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.checkpoints import training_state
from trainables.checkpoints.training_state import TrainingState
from trainables.lane.store_sync import LaneStore
from trainables.optim.workers import SOLO, World
from trainables.storage.layout import STATES_FOLDER


class TrialStates:
    """The states of one trial.

    Args:
        folder: The trial's folder.
        store: The worker's copy of the sweep.
        world: The workers that share the trial.
        sharded: Whether each of them has its part of the state.

    Attributes:
        writes: Whether this worker writes states.
    """

    def __init__(self, folder: Path, store: LaneStore, world: World, *, sharded: bool) -> None:
        self.writes = sharded or world.rank == 0
        self._name = f"{STATES_FOLDER}/rank-{world.rank}-of-{world.size}" if sharded else STATES_FOLDER
        self._trial, self._store, self._world, self._sharded = folder, store, world, sharded

    def fetch(self) -> None:
        """Replace the trial's folder by what the store has of it; raises as `LaneStore.fetch_trial` does."""
        self._store.fetch_trial(self._trial.name, self._name, writes=self._world.rank == 0, all_states=self._sharded)

    def last(self, expected: Mapping[str, Any]) -> TrainingState | None:
        """Load the latest state that all workers have, whole. Collective.

        Args:
            expected: Values that its `meta` must hold.
        """
        places = self._trial / self._name
        # Workers write their parts, or see a shared disk, at different moments.
        found = self._world.together(lambda: training_state.whole_states(places, expected))
        steps = set.intersection(*map(set, found))
        with self._world.all_or_none():
            state = training_state.load(found[self._world.rank][max(steps)]) if steps else None
            if self.writes and self._world.rank > 0:
                self._store.follow(self._trial.name)  # rank 0 has signed: it has answered above
        return state

    def save(self, state: TrainingState) -> None:
        """Write a state, then remove the earlier ones, on the writer's thread. Collective if sharded.

        Raises:
            Exception: As `World.all_or_none`, if sharded; the earlier state is still there, on all workers.
        """
        # An earlier state is of use until all workers have their parts of this one.
        with (self._world if self._sharded else SOLO).all_or_none(writers=True):
            place = training_state.write(self._trial / self._name, state)
            self._store.upload_sealed(place)
        training_state.drop_earlier(place)
        self._store.drop_earlier(place)
