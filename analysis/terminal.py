"""The terminal: characters that it can't show, and a reader that leaves."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

# What stands for our own characters where the encoding lacks them (`LC_ALL=C`, `PYTHONIOENCODING=ascii`).
PLAIN = str.maketrans(
    {
        **dict(zip("…×·→−–±Δ•", ("...", "x", "-", "->", "-", "-", "+-", "d ", "*"), strict=True)),
        **dict(zip("│─└├┤┌┐┘┬┴┼●", "|-+++++++++o", strict=True)),
        **dict(zip("▁▂▃▄▅▆▇█", "12345678", strict=True)),
    }
)


def show_plainly() -> None:
    """Lets stdout and stderr show what their encoding lacks as plain characters or as `\\xe4`, and never refuse it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


class Guarded:
    """A text stream that turns itself off, once, when it can't be written; never raises.

    Attributes:
        lost: Why it is off; empty while it works.
    """

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self.name, self.lost = stream, name, ""

    def write(self, text: str) -> int:
        self._attempt("write", text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._attempt("flush")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, what: str, *arguments: str) -> None:
        if self.lost:
            return
        try:
            getattr(self._stream, what)(*arguments)
        except (OSError, ValueError) as error:  # ValueError: closed, or an encoding that refuses a character
            self.lost = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self._discard_the_rest()
            if self.name == "stdout":
                print(f"warning: stdout can't be written any more ({self.lost}): the sweep goes on", file=sys.stderr)

    def _discard_the_rest(self) -> None:
        # What is buffered would be written at the program's end, and fail again.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """While entered, neither stdout nor stderr can fail the program."""
    before = sys.stdout, sys.stderr
    # A stream is None where the program was started without it (`>&-`).
    sys.stdout, sys.stderr = (
        Guarded(stream, name) if stream is not None else io.StringIO()
        for stream, name in zip(before, ("stdout", "stderr"), strict=True)
    )
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def lost_streams() -> dict[str, str]:
    """Why each of the guarded streams that is off can't be written, by its name."""
    return {one.name: one.lost for one in (sys.stdout, sys.stderr) if isinstance(one, Guarded) and one.lost}


def _plain_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


_HANDLER = "plain-characters"
codecs.register_error(_HANDLER, _plain_characters)
