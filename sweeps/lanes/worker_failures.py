"""Reports a dead worker of a lane to the dispatcher at once, so that its trial can go on elsewhere.

In a module of its own: Ray Train's controller imports it, and `sweeps.lanes.lanes` imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.train import UserCallback

RAISED = "UserExceptionWithTraceback"  # Ray Train's class for them; its text ends with the error's line


class LostWorkers(UserCallback):
    """Ray Train callback in the lane's controller; `dispatcher` is the name of an actor in `namespace`."""

    def __init__(self, dispatcher: str, namespace: str, lane: str) -> None:
        self.dispatcher, self.namespace, self.lane = dispatcher, namespace, lane

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        # Ray Train then ends the lane's other workers and starts all of them again.
        dispatcher: Any = ray.get_actor(self.dispatcher, self.namespace)
        ray.get(dispatcher.lost.remote(self.lane, said(worker_exceptions)))


def said(worker_exceptions: Mapping[int, Exception]) -> str:
    """The last line of each error that a worker's own code raised, by rank; empty where none did."""
    raised = {
        rank: str(error).strip().splitlines()[-1]
        for rank, error in sorted(worker_exceptions.items())
        if type(error).__name__ == RAISED and str(error).strip()
    }
    return "; ".join(f"worker {rank}: {line}" for rank, line in raised.items())
