"""Hands a job's text to the program of a cluster, such as `sbatch`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from trainables.errors import UserError

ANSWER_SECONDS = 60.0  # ours: a busy controller of Slurm takes half a minute


class SilentError(UserError):
    """The program does not end; whether it has handed the job over is not known."""


def hand_over(
    command: list[str],
    text: str,
    option: str,
    if_missing: str,
    folder: Path | None = None,
    remedy: str = "change what is asked for, or check your rights; --dry-run shows the file",
) -> str:
    """Gives a program the text on its standard input; returns what it prints.

    Args:
        command: The program and its arguments.
        text: The job.
        option: The option of the command line that asked for it.
        if_missing: Remedy where the program is not on this machine.
        folder: Where it runs; here where it is None.
        remedy: Remedy where the program refuses the job.

    Raises:
        UserError: The program is missing, or refuses the job.
        SilentError: It does not end within a minute.
    """
    if shutil.which(command[0]) is None:
        raise UserError(option, f"needs {command[0]} on this machine", "none on the PATH", if_missing)
    try:
        done = subprocess.run(
            command,
            input=text,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        rule, what = f"{command[0]} must answer within {ANSWER_SECONDS:g} s", "see whether the job is there"
        raise SilentError(option, rule, "no answer", what) from None
    if done.returncode:
        raise UserError(option, f"{command[0]} must accept the job", " ".join(done.stderr.split()), remedy)
    return done.stdout
