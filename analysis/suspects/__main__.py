"""`python -m analysis.suspects DIR`: training samples that are likely wrong."""

from __future__ import annotations

import json
import sys

from analysis.cli import DONE, Parser, run
from analysis.records.locate import opened
from analysis.suspects.find import SHOWN, find_suspects, lines

EXAMPLE = """example:
  python -m analysis.suspects outputs/demo --top 20           # the list
  python -m analysis.suspects outputs/demo --kind-key kind    # compare within the metadata key "kind"

exit codes: 0 done, 2 wrong arguments or files"""


def main(arguments: list[str] | None = None) -> int:
    """The command `python -m analysis.suspects`; returns its exit code."""
    parser = Parser("python -m analysis.suspects", "Training samples to look at: likely wrong answers.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    parser.add_argument("--top", type=int, default=SHOWN, help=f"how many samples (default: {SHOWN})")
    parser.add_argument("--kind-key", help="metadata key that says the kind of answer (default: the answer's form)")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    given = parser.parse_args(arguments)
    if given.top < 1:
        parser.error("--top must be 1 or more")

    def command() -> int:
        with opened(given.folder) as folder:
            found = find_suspects(folder, given.top, given.kind_key)
        if given.json:
            print(json.dumps([suspect.as_json() for suspect in found], indent=1, ensure_ascii=False))
        else:
            print("\n".join(line for place, suspect in enumerate(found, 1) for line in lines(place, suspect)))
        return DONE

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
