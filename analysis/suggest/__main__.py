"""`python -m analysis.suggest DIR`: the next sweep, as a config that runs."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from pathlib import Path

from analysis.cli import Parser, local_path
from analysis.records.locate import opened
from analysis.suggest.next_config import changes_in_words, suggest
from trainables.errors import UserError

EXAMPLE = """example:
  python -m analysis.suggest outputs/demo                  # what to change, and why
  python -m analysis.suggest outputs/demo --to next.yaml   # write it; then: python -m sweeps.run next.yaml

exit codes: 0 done, 2 wrong arguments or files"""


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.suggest", "The next sweep, as a config that runs.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    parser.add_argument("--to", metavar="FILE", help="write the config here")
    parser.add_argument("--full", action="store_true", help="print the config, not the changes")
    return parser.run(_suggest, arguments)


def _suggest(given: Namespace) -> None:
    to = None if given.to is None else local_path(given.to, "--to")
    with opened(given.folder) as folder:
        found = suggest(folder)
    if given.full:
        sys.stdout.write(found.text)
        return
    if to is not None:
        _write(to, found.text)
    print("\n".join(changes_in_words(found)))
    if to is None:
        print(f"\nAs a config: python -m analysis.suggest {shlex.quote(given.folder)} --to next.yaml")
    else:
        print(f"\nWritten to {to}. Try it: python -m sweeps.run {shlex.quote(str(to))} --plan")


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:  # never over a config that the user may have edited
            file.write(text)
    except FileExistsError:
        raise UserError(f"--to {path}", "must not exist yet", "a file", "name another") from None


if __name__ == "__main__":
    sys.exit(main())
