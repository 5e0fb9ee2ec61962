"""`python -m analysis.report DIR`: writes the sweep's report.html."""

from __future__ import annotations

import sys
from argparse import Namespace

from analysis.cli import Parser
from analysis.records.locate import opened, place_of
from analysis.report.page import write_report
from trainables.storage.object_store import is_url

EXAMPLE = """example: python -m analysis.report outputs/demo

exit codes: 0 done, 2 wrong arguments or files"""


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.report", "Writes a sweep's report.html.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    return parser.run(_report, arguments)


def _report(given: Namespace) -> None:
    with opened(given.folder) as folder:
        page = write_report(folder)
    # A sweep in an object store is read from a working copy: the user knows the page by its URL.
    print(f"report: {f'{place}/{page.name}' if is_url(place := place_of(folder)) else page}")


if __name__ == "__main__":
    sys.exit(main())
