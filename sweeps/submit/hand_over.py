"""Hands a job's text to the program of a cluster, such as `sbatch`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from trainables.errors import UserError


def hand_over(command: list[str], text: str, option: str, if_missing: str, folder: Path | None = None) -> str:
    """Gives a program the text on its standard input; returns what it prints.

    Args:
        command: The program and its arguments.
        text: The job.
        option: The option of `sweeps.submit` that asked for it.
        if_missing: Remedy where the program is not on this machine.
        folder: Where it runs; here where it is None.

    Raises:
        UserError: The program is missing, or refuses the job.
    """
    if shutil.which(command[0]) is None:
        raise UserError(option, f"needs {command[0]} on this machine", "none on the PATH", if_missing)
    done = subprocess.run(
        command, input=text, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        remedy = "change what is asked for, or check your rights; --dry-run shows the file"
        raise UserError(option, f"{command[0]} must accept the job", " ".join(done.stderr.split()), remedy)
    return done.stdout
