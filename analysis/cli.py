"""What the commands of this package share: arguments, exit codes, and errors as one line on stderr."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from trainables.errors import UserError, UserErrors

DONE, WRONG_INPUT, NO_COMPLETE_TRIAL, INTERRUPTED = 0, 2, 3, 130


class NoWinnerError(UserError):
    """A command needs a winner and the sweep has none: exit code 3."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors look like all other errors: one line, exit code 2."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Prints the error on one line and exits with code 2."""
        got = " ".join(sys.argv[1:]) or "no arguments"
        print(f"error: {UserError('arguments', message, got, f'see {self.prog} --help')}", file=sys.stderr)
        raise SystemExit(WRONG_INPUT)


def run(command: Callable[[], int]) -> int:
    """Runs a command and turns what a user can cause into one line on stderr and an exit code.

    Args:
        command: Returns its own exit code.

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
    except BrokenPipeError:  # the reader (head, less) has had enough; without this Python complains once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        rule, remedy = "must be readable and writable", "check the path, its permissions and the free space"
        print(f"error: {UserError(str(error.filename or 'files'), rule, error.strerror, remedy)}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
