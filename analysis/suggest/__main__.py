"""`python -m analysis.suggest DIR`: the next sweep, as a config that runs."""

from __future__ import annotations

import sys
from pathlib import Path

from analysis.cli import DONE, Parser, run
from analysis.records.locate import opened
from analysis.suggest.next_config import suggest
from trainables.errors import UserError

EXAMPLE = """example:
  python -m analysis.suggest outputs/demo                  # print it
  python -m analysis.suggest outputs/demo --to next.yaml   # write it; then: python -m sweeps.run next.yaml

exit codes: 0 done, 2 wrong arguments or files"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("python -m analysis.suggest", "The next sweep, as a config that runs.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    parser.add_argument("--to", metavar="FILE", type=Path, help="write it here; default: print it")
    given = parser.parse_args(arguments)

    def command() -> int:
        with opened(given.folder) as folder:
            text = suggest(folder)
        if given.to is None:
            sys.stdout.write(text)
            return DONE
        try:
            with given.to.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise UserError(f"--to {given.to}", "must not exist yet", "a file", "name another") from None
        print(f"next sweep: {given.to}; try it: python -m sweeps.run {given.to} --plan")
        return DONE

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
