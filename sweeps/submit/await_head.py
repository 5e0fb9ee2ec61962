"""Waits for a Slurm job's Ray cluster: `python -m sweeps.submit.await_head ADDRESS NODES`. Exit code 1: no head."""

from __future__ import annotations

import logging
import sys
import time

WAIT_SECONDS = 120.0  # a node that joins later gets a lane all the same


def main(address: str, nodes: int) -> int:
    """Returns 0 once so many nodes are up, or the time is over and the head is up; else 1."""
    import ray

    from sweeps.lanes.surroundings import joinable

    deadline, up = time.monotonic() + WAIT_SECONDS, 0
    last: object = "no node that is alive"
    while up < nodes and time.monotonic() < deadline:
        try:
            if not ray.is_initialized():
                joinable(address)  # where nothing answers, Ray itself would try for ever
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            up = sum(node["Alive"] for node in ray.nodes())
        except Exception as error:  # noqa: BLE001 - the head may not listen yet, which Ray says in several ways
            last = error
        time.sleep(1)
    if not up:
        print(
            f"error: Ray: its head must be up within {WAIT_SECONDS:g} s, got {last}; see the step's log",
            file=sys.stderr,
        )
        return 1
    print(f"Ray: {up} of {nodes} nodes are up", flush=True)
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
