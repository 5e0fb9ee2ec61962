"""What the commands share: arguments, exit codes, and errors as one line on stderr."""

from __future__ import annotations

import argparse
import difflib
import os
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

from analysis.terminal import show_plainly
from trainables.errors import UserError, UserErrors
from trainables.storage.object_store import is_url

REQUIRED = "the following arguments are required: "  # argparse's words
DONE, WRONG_INPUT, NO_COMPLETE_TRIAL, INTERRUPTED = 0, 2, 3, 130


class NoWinnerError(UserError):
    """A command needs a winner and the sweep has none: exit code 3."""

    exit_code = NO_COMPLETE_TRIAL


class Parser(argparse.ArgumentParser):
    """An argument parser that reports its errors as all others are: one line, exit code 2."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        show_plainly()
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

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; an empty value of an option, as of a variable that is not set, is an error."""
        given, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            if action.option_strings and getattr(given, action.dest, None) == "":
                self.error(f"argument {_named(action)}: must not be empty; is a variable not set?")
        return given, rest

    def error(self, message: str) -> NoReturn:
        """Prints the error on one line and exits with code 2."""
        got, remedy = " ".join(sys.argv[1:]) or "none", f"see {self.prog} --help"
        if message.startswith(REQUIRED):
            missing = message.removeprefix(REQUIRED).split(", ")
            needed = [action for action in self._actions if action.required]
            shown = [f"{name} ({one.help})" for one in needed if (name := _named(one)) in missing]
            message = f"must have {' and '.join(shown or missing)}"
            remedy = f"usage: {' '.join([self.prog, *map(_usage, needed)])}"
        print(f"error: {UserError('arguments', message, got, remedy)}", file=sys.stderr)
        raise SystemExit(WRONG_INPUT)


def _named(argument: argparse.Action) -> str:
    """An argument as argparse's errors name it."""
    return "/".join(argument.option_strings) or str(argument.metavar or argument.dest)


def _usage(argument: argparse.Action) -> str:
    value = str(argument.metavar or argument.dest)
    return f"{argument.option_strings[0]} {value}" if argument.option_strings else value


def run(command: Callable[[], int]) -> int:
    """Runs a command and turns the errors that a user can cause into one line on stderr and an exit code.

    Returns:
        The command's code; an error's own `exit_code`, as of `NoWinnerError`; 2 for other wrong input, a file that
        can't be read or written, or no space; 130 for Ctrl-C.
    """
    try:
        return command()
    except (UserError, UserErrors) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return getattr(error, "exit_code", WRONG_INPUT)
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe. Without this redirect Python complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        rule, remedy = "must be readable and writable", "check the path, its permissions and the free space"
        got, where = error.strerror or f"{type(error).__name__}: {error}", error.filename or "files"
        if error.filename is None and _current_folder_is_gone():
            where, rule, got, remedy = "the current folder", "must be there", "one that was removed", "cd to another"
        print(f"error: {UserError(str(where), rule, got, remedy)}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one would show a traceback from Python's own exit
        print(f"interrupted; {error}" if str(error) else "interrupted", file=sys.stderr)
        return INTERRUPTED


def _current_folder_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def local_path(text: str, option: str) -> Path:
    """The path that an option names for files to be written, with `~` for the user's home.

    Raises:
        UserError: It is a URL: a folder called `s3:` would be made.
    """
    if is_url(text):
        remedy = "write to a folder, then upload it: aws s3 cp --recursive, gcloud storage cp -r"
        raise UserError(option, "must be a path of this machine", text, remedy)
    return Path(text).expanduser()


def nearest(name: str, names: Collection[str], none: str = "none") -> str:
    """Remedy for a name that is not among `names`: the closest ones, else all of them, else `none`."""
    if close := difflib.get_close_matches(name, names, n=3):
        return f"did you mean {', '.join(close)}?"
    return f"one of {', '.join(names) or none}"
