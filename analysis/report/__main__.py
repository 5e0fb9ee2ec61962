"""`python -m analysis.report DIR`: writes the sweep's report.html."""

from __future__ import annotations

import sys
from argparse import Namespace

from analysis.cli import Parser
from analysis.records.locate import opened, place_of
from analysis.report.page import write_report
from trainables.errors import UserError
from trainables.storage.object_store import is_url

EXAMPLE = """example:
  python -m analysis.report outputs/demo
  python -m analysis.report /read-only/demo --to demo.html

exit codes: 0 done, 2 wrong arguments or files"""


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.report", "Writes a sweep's report.html.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    parser.add_argument("--to", metavar="FILE", help="write the page to this file; default: report.html in DIR")
    return parser.run(_report, arguments)


def _report(given: Namespace) -> None:
    with opened(given.folder) as folder:
        try:
            page = write_report(folder, to=given.to)
        except OSError as error:
            remedy = "name a file that can be written with --to"
            raise UserError(str(error.filename), "must be writable", error.strerror, remedy) from error
    # A sweep in an object store is read from a working copy: the user knows the page by its URL.
    print(f"report: {f'{place}/{page.name}' if not given.to and is_url(place := place_of(folder)) else page}")


if __name__ == "__main__":
    sys.exit(main())
