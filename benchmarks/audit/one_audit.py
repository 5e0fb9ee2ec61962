"""The measured side of `benchmarks.audit`: one audit in a fresh process."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from trainables.config.data_sections import FieldNames
from trainables.data.audit.audit import AuditSource, audit

FIELDS = FieldNames()
PROCESSES = 2


def run(folder: Path) -> dict[str, Any]:
    train = AuditSource("data.train", str(folder / "train.jsonl"))
    areas = {"held": AuditSource("heldout.areas.held", str(folder / "heldout.jsonl"))}
    start = time.perf_counter()
    done = audit(train, areas, FIELDS, {}, processes=PROCESSES)
    seconds = time.perf_counter() - start
    found = {rule: hits.lines.tolist() for rule, hits in done.train.hits.items()}
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in usage)
    return {"seconds": seconds, "cpu_seconds": cpu, "by_rule": done.seconds, "found": found}


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
