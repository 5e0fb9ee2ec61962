"""Whether a Slurm job goes back to the queue: `python -m sweeps.submit.allocations PLACE FILE`, exit code 0 or 1.

FILE, beside the job's log, has a line for each allocation that ended before the sweep did.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trainables.errors import UserError
from trainables.storage.layout import CURVE_FILE, TRIALS_FOLDER
from trainables.storage.object_store import Remote, is_url

IDLE_ALLOCATIONS = 2  # ours: one may have met a bad node


def goes_on(marks: Sequence[str]) -> bool:
    """Whether the last allocations trained a new step.

    Args:
        marks: After each allocation so far, what names the steps trained until then; "" for none.
    """
    last = ["", *marks][-IDLE_ALLOCATIONS - 1 :]
    return len(last) <= IDLE_ALLOCATIONS or len(set(last)) > 1


def main(place: str, file: str) -> int:
    """Notes that an allocation has ended; returns 0 if another one is worth asking for."""
    with Path(file).open("a+", encoding="utf-8") as history:
        history.write(json.dumps({"restart": os.environ.get("SLURM_RESTART_COUNT", "0"), "steps": _mark(place)}) + "\n")
        history.seek(0)
        marks = [json.loads(line)["steps"] for line in history]
    if goes_on(marks):
        return 0
    rule, remedy = (
        f"{IDLE_ALLOCATIONS} allocations must train a step",
        "ask for a longer --time, or look for the cause above",
    )
    print(f"error: {UserError(place, rule, 'none', remedy)}", file=sys.stderr)
    return 1


def _mark(place: str) -> str:
    """Names the steps that are recorded: it changes with every one."""
    if is_url(place):
        curves = sorted(item for item in Remote(place).listed(TRIALS_FOLDER).items() if item[0].endswith(CURVE_FILE))
    else:
        found = sorted(Path(place, TRIALS_FOLDER).glob(f"*/{CURVE_FILE}"))
        curves = [(path.parent.name, str(path.stat().st_size)) for path in found]
    return hashlib.sha256(json.dumps(curves).encode()).hexdigest() if curves else ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
