"""What the tests of the audit share: samples, and an audit of some lines."""

import json
import tempfile
from pathlib import Path

from trainables.config.data_sections import FieldNames
from trainables.data.audit.audit import AuditSource, audit

FIELDS = FieldNames()
TABLE = "(in millions) | 2019 | 2018\nDeferred revenue | 13.6 | 5.6\nOther liabilities, current | 19.2 | (4.8)\n\n"


def sample(name, prompt=None, response="a word"):
    return {"id": name, "prompt": prompt or f"What is called {name}?", "response": response}


def as_bytes(lines):
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def written(folder, lines, name="train.jsonl"):
    path = Path(folder) / name
    path.write_bytes(as_bytes(lines))
    return str(path)


def sources(folder, train, areas):
    return (
        AuditSource("data.train", written(folder, train)),
        {
            name: AuditSource(f"heldout.areas.{name}", written(folder, lines, f"{name}.jsonl"))
            for name, lines in areas.items()
        },
    )


def audited(train, areas=None, actions=None, **settings):
    with tempfile.TemporaryDirectory() as folder:
        return audit(*sources(folder, train, areas or {}), FIELDS, actions or {}, **settings)
