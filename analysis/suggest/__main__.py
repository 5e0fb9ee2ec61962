"""`python -m analysis.suggest DIR`: the next sweep, as a config that runs."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace

from analysis.cli import Parser, local_path
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
    parser.add_argument("--to", metavar="FILE", help="write it here; default: print it")
    return parser.run(_suggest, arguments)


def _suggest(given: Namespace) -> None:
    to = None if given.to is None else local_path(given.to, "--to")
    with opened(given.folder) as folder:
        text = suggest(folder)
    if to is None:
        sys.stdout.write(text)
        return
    try:
        with to.open("x", encoding="utf-8") as file:  # never over a config that the user may have edited
            file.write(text)
    except FileExistsError:
        raise UserError(f"--to {to}", "must not exist yet", "a file", "name another") from None
    print(f"next sweep: {to}; try it: python -m sweeps.run {shlex.quote(str(to))} --plan")


if __name__ == "__main__":
    sys.exit(main())
