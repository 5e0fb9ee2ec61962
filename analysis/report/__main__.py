"""`python -m analysis.report DIR`: writes the sweep's report.html."""

from __future__ import annotations

import sys

from analysis.cli import DONE, Parser, run
from analysis.records.locate import opened, place_of
from analysis.report.page import write_report
from trainables.storage.object_store import is_url

EXAMPLE = """example: python -m analysis.report outputs/demo

exit codes: 0 done, 2 wrong arguments or files"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("python -m analysis.report", "Writes a sweep's report.html.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    given = parser.parse_args(arguments)

    def command() -> int:
        with opened(given.folder) as folder:
            page = write_report(folder)
        print(f"report: {f'{place}/{page.name}' if is_url(place := place_of(folder)) else page}")
        return DONE

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
