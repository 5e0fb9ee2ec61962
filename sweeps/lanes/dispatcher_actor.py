"""The dispatcher as a Ray actor.

In a module of its own, because a caller of a named actor imports the module of its class. `sweeps.lanes.lanes` imports
torch, which cost the first trial 2 s and the process of every trial the memory.
"""

from __future__ import annotations

import ray

from sweeps.lanes.dispatcher import Dispatcher


class DispatcherActor(Dispatcher):
    """A dispatcher that knows whether it replaces one that died."""

    def __init__(self, max_failures: int) -> None:
        super().__init__(max_failures, restarted=ray.get_runtime_context().was_current_actor_reconstructed)
