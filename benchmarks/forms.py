"""Counts, for data files of any form, the rows that are read and refused, and the keys that nothing reads.

    python -m benchmarks.forms FILE… [--field prompt=question …]

prints a line of JSON for each file. Files that were counted for the notes: `data/` of hiyouga/LlamaFactory.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

from trainables.config.data_sections import FieldNames
from trainables.data.samples import Sample, parse_sample, unread_keys
from trainables.data.sources import read_raw
from trainables.errors import UserError

SHOWN = 2  # examples of each broken rule


def count(path: str, fields: FieldNames) -> dict[str, Any]:
    forms: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    refused, read_anyway = set(), {"byte_order_mark"}
    examples: dict[str, list[str]] = {}
    try:
        for raw in read_raw(path, fields, "train"):
            found = parse_sample(path, raw, fields)
            if isinstance(found, Sample):
                forms[found.form] += 1
                unread.update(unread_keys(found))
                continue
            for defect in found:
                rules[defect.rule] += 1
                refused |= {defect.line} if defect.rule not in read_anyway else set()
                shown = examples.setdefault(defect.rule, [])
                shown += [f"{defect.line}: {defect.got}"] * (len(shown) < SHOWN)
    except UserError as error:
        return {"file": path, "error": str(error)}
    return {
        "file": path,
        "read": forms.total(),
        "refused": len(refused),
        "forms": dict(forms),
        "unread_keys": dict(unread.most_common()),
        "rules": dict(rules),
        "examples": examples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--field", action="append", default=[], metavar="PART=KEY", help="as data.fields.PART=KEY")
    options = parser.parse_args()
    fields = FieldNames(**dict(field.split("=", 1) for field in options.field))
    for path in options.files:
        print(json.dumps(count(path, fields), ensure_ascii=False))


if __name__ == "__main__":
    main()
