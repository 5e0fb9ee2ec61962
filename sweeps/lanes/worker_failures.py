"""Reports a dead worker of a lane to the dispatcher at once, so that its trial can go on elsewhere.

In a module of its own: Ray Train's controller imports it, and `sweeps.lanes.lanes` imports torch.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.train import UserCallback


class LostWorkers(UserCallback):
    """Ray Train callback in the lane's controller; `dispatcher` is the name of an actor in `namespace`."""

    def __init__(self, dispatcher: str, namespace: str, lane: str) -> None:
        self.dispatcher, self.namespace, self.lane = dispatcher, namespace, lane

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        # Ray Train then ends the lane's other workers and starts all of them again.
        dispatcher: Any = ray.get_actor(self.dispatcher, self.namespace)
        ray.get(dispatcher.lost.remote(self.lane))
