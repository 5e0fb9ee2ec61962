"""User errors: one line each, with the place, the rule, the value found and the remedy."""

from __future__ import annotations

import errno
from collections.abc import Collection

from trainables.redaction import redact

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class UserError(ValueError):
    """A mistake in a config, a data file or an argument.

    Args:
        where: The setting or file, such as `space.peak_lr` or `train.jsonl line 7`.
        rule: The requirement, such as `low must be below high`.
        got: The value found, as text.
        remedy: What the user can do.
    """

    def __init__(self, where: str, rule: str, got: object, remedy: str) -> None:
        self.where, self.rule, self.got, self.remedy = where, rule, str(got), remedy
        super().__init__(where, rule, self.got, remedy)  # all four: Ray pickles an error by its arguments

    def __str__(self) -> str:
        """`WHERE: RULE, got VALUE; REMEDY`, on one line, without credentials."""
        lines = f"{self.where}: {self.rule}, got {self.got}; {self.remedy}".splitlines()
        return redact(" ".join(line.strip() for line in lines if line.strip()))  # a path may hold two spaces


class WordedError(UserError):
    """An error line that another process has worded."""

    def __init__(self, line: str) -> None:
        super().__init__(line, "", "", "")

    def __str__(self) -> str:
        return self.where


class UserErrors(ValueError):  # noqa: N818 - several of them
    """Several mistakes that are reported together.

    Args:
        errors: At least one, in the order of display.
    """

    def __init__(self, errors: list[UserError]) -> None:
        self.errors = errors
        super().__init__(errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def os_error(error: BaseException, numbers: Collection[int]) -> OSError | None:
    """The first `OSError` with one of these numbers among an error and its causes, if any."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in numbers:
            return cause
        cause = cause.__cause__
    return None
