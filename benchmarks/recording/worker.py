"""A process of `benchmarks.recording`. A started process can't import what a package's `__main__` defines."""

from __future__ import annotations

import argparse
import multiprocessing as mp
import queue
import time
from typing import Any


def work(jobs: Any, results: Any, options: argparse.Namespace, deadline: float) -> None:
    """Trains trials on a warm base, in a process of its own."""
    from benchmarks.recording.trial import Recorder

    parent = mp.parent_process()

    def next_job() -> dict[str, Any] | None:
        if time.time() >= deadline or not parent or not parent.is_alive():
            return None
        try:
            return dict(jobs.get(timeout=1.0))
        except queue.Empty:
            return None

    Recorder(options).record_all(next_job, results.put)
    results.put(None)
