"""Tells the dispatcher at once when a lane's worker dies, so that its trial can go on elsewhere.

In a module of its own: Ray Train's controller imports it, and `sweeps.lanes` imports torch.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.train import UserCallback


class LostWorkers(UserCallback):
    """Called in the lane's controller. The lane itself comes up again as soon as there is a place for it.

    Args:
        dispatcher: Name of the dispatcher's actor.
        namespace: Of that name.
        lane: The lane.
    """

    def __init__(self, dispatcher: str, namespace: str, lane: str) -> None:
        self.dispatcher, self.namespace, self.lane = dispatcher, namespace, lane

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """A worker has died or failed; Ray Train ends the others of the lane, and starts all again."""
        dispatcher: Any = ray.get_actor(self.dispatcher, self.namespace)
        ray.get(dispatcher.lost.remote(self.lane))
