"""`python -m analysis.rank DIR`: the leaderboard, as a table, JSON or CSV."""

from __future__ import annotations

import errno
import sys

from analysis.cli import DONE, NO_COMPLETE_TRIAL, Parser, run
from analysis.output.end_screen import print_end
from analysis.output.leaderboard_csv import as_csv
from analysis.output.leaderboard_table import print_board
from analysis.rank.leaderboard import as_json, save_leaderboard, whole_leaderboard
from analysis.records.locate import opened
from trainables.storage.layout import REPORT_FILE

EXAMPLE = """example:
  python -m analysis.rank outputs/demo          # the outcome; also writes outputs/demo/leaderboard.json
  python -m analysis.rank outputs/demo --full   # all columns, statistics and notes
  python -m analysis.rank s3://bucket/sweeps/x  # likewise, of a sweep in an object store
  python -m analysis.rank outputs/demo --json   # the same as JSON
  python -m analysis.rank outputs/demo --csv    # a line a trial, for a spreadsheet

exit codes: 0 done, 2 wrong arguments or files, 3 no complete trial with held-out scores"""


READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = Parser("python -m analysis.rank", "Ranks the trials of a sweep on its held-out areas.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print the leaderboard as JSON instead of a table")
    forms.add_argument("--csv", action="store_true", help="print a line a trial as CSV instead of a table")
    forms.add_argument("--full", action="store_true", help="all columns of all trials, statistics and notes too")
    given = parser.parse_args(arguments)

    def command() -> int:
        with opened(given.folder) as folder:
            board = whole_leaderboard(folder)
            try:
                save_leaderboard(folder, board)
            except OSError as error:
                if error.errno not in READ_ONLY:
                    raise
                print(f"note: {error.filename} is not written: {error.strerror}", file=sys.stderr)
        if given.json or given.csv:
            sys.stdout.write(as_json(board) if given.json else as_csv(board))
            sys.stdout.flush()
        else:
            report = f"{given.folder.rstrip('/')}/{REPORT_FILE}" if (folder / REPORT_FILE).is_file() else None
            print_end(board, place=None if given.full else given.folder, report=report)
        if given.full:
            print()
            print_board(board)
        return DONE if board["winner"] else NO_COMPLETE_TRIAL

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
