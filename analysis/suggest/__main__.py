"""`python -m analysis.suggest DIR`: the next sweep, as a config that runs."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from analysis.cli import Parser
from analysis.records.locate import opened
from analysis.suggest.next_config import suggest
from trainables.errors import UserError

EXAMPLE = """example:
  python -m analysis.suggest outputs/demo                  # print it
  python -m analysis.suggest outputs/demo --to next.yaml   # write it; then: python -m sweeps.run next.yaml

exit codes: 0 done, 2 wrong arguments or files"""


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.suggest", "The next sweep, as a config that runs.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    parser.add_argument("--to", metavar="FILE", type=Path, help="write it here; default: print it")
    return parser.run(_suggest, arguments)


def _suggest(given: Namespace) -> None:
    with opened(given.folder) as folder:
        text = suggest(folder)
    if given.to is None:
        sys.stdout.write(text)
        return
    try:
        with given.to.open("x", encoding="utf-8") as file:  # never over a config that the user may have edited
            file.write(text)
    except FileExistsError:
        raise UserError(f"--to {given.to}", "must not exist yet", "a file", "name another") from None
    print(f"next sweep: {given.to}; try it: python -m sweeps.run {given.to} --plan")


if __name__ == "__main__":
    sys.exit(main())
