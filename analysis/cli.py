"""What the commands share: arguments, exit codes, and errors as one line on stderr."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Collection
from typing import NoReturn

from trainables.errors import UserError, UserErrors

DONE, WRONG_INPUT, NO_COMPLETE_TRIAL, INTERRUPTED = 0, 2, 3, 130


class NoWinnerError(UserError):
    """A command needs a winner and the sweep has none: exit code 3."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports its errors as all others are: one line, exit code 2."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            # An abbreviation that works today would break with the next option of the same beginning.
            allow_abbrev=False,
        )

    def run(self, command: Callable[[argparse.Namespace], int | None], arguments: list[str] | None) -> int:
        """Parses the arguments (None: those of the process) and runs the command on them, as `run` does."""
        given = self.parse_args(arguments)
        return run(lambda: command(given) or DONE)

    def error(self, message: str) -> NoReturn:
        """Prints the error on one line and exits with code 2."""
        got = " ".join(sys.argv[1:]) or "no arguments"
        print(f"error: {UserError('arguments', message, got, f'see {self.prog} --help')}", file=sys.stderr)
        raise SystemExit(WRONG_INPUT)


def run(command: Callable[[], int]) -> int:
    """Runs a command and turns the errors that a user can cause into one line on stderr and an exit code.

    Returns:
        The command's code; 3 for `NoWinnerError`; 2 for wrong input, a file that can't be read or written, or no
        space; 130 for Ctrl-C.
    """
    try:
        return command()
    except (UserError, UserErrors) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return NO_COMPLETE_TRIAL if isinstance(error, NoWinnerError) else WRONG_INPUT
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe. Without this redirect Python complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        rule, remedy = "must be readable and writable", "check the path, its permissions and the free space"
        print(f"error: {UserError(str(error.filename or 'files'), rule, error.strerror, remedy)}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def nearest(name: str, names: Collection[str], none: str = "none") -> str:
    """Remedy for a name that is not among `names`: the closest ones, else all of them, else `none`."""
    if close := difflib.get_close_matches(name, names, n=3):
        return f"did you mean {', '.join(close)}?"
    return f"one of {', '.join(names) or none}"
