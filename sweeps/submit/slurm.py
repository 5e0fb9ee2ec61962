"""A sweep as a Slurm job: one batch file that starts, resumes and requeues it until it is finished."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.config.sweep_config import SweepConfig
from trainables.errors import UserError
from trainables.storage.object_store import is_url

if TYPE_CHECKING:
    from sweeps.plan.plan import Plan

BODY = files("sweeps.submit").joinpath("slurm_job.sh")
# Slurm's forms of a time limit (sbatch(1), --time).
DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
PLAIN = re.compile(r"\d+(?::\d+){0,2}")


@dataclass(frozen=True)
class Allocation:
    """What a job asks of Slurm; None leaves a thing to the cluster's defaults.

    Attributes:
        nodes: Nodes.
        gpus_per_node, cpus_per_task: Of each node.
        time: Time limit in one of Slurm's forms.
        grace: Seconds before the time limit at which the sweep is told to end in order.
        partition, account: Slurm's.
        more: Further options as of `sbatch`, without the dashes in front (`qos=long`).
        name: Of the job, and of its files; the sweep's where it is None.
        folder: Where the job runs, and its files lie; the current one where it is None.
    """

    nodes: int = 1
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    time: str | None = None
    grace: int = 300
    partition: str | None = None
    account: str | None = None
    more: tuple[str, ...] = ()
    name: str | None = None
    folder: Path | None = None


def batch_file(sweep: SweepConfig, text: str, overrides: list[str], asked: Allocation) -> str:
    """Writes the batch file.

    Args:
        sweep: The sweep.
        text: Its YAML file, which the job takes along: a queue may take days, and the user edits the file meanwhile.
        overrides: `key=value` texts on top of it.
        asked: What is asked of Slurm.

    Raises:
        UserError: The sweep's folder is not absolute, or the time limit leaves no time.
    """
    if not is_url(sweep.storage_path) and not Path(sweep.storage_path).is_absolute():
        remedy = "name a folder that all nodes share, such as /shared/sweeps, or an object store"
        raise UserError("storage_path", "must be absolute for a Slurm job", sweep.storage_path, remedy)
    refuse_short_time(asked)
    # Slurm reads these lines without a shell: a log's name can't be quoted, so it stays in the folder of submission.
    name = asked.name or sweep.name
    head = [f"#SBATCH --{option}" for option in _options(name, asked)]
    variables = [
        f"cd {shlex.quote(str(asked.folder or Path.cwd()))} || exit 2",
        f"PYTHON={shlex.quote(sys.executable)}",
        f"CONFIG={shlex.quote(text)}",
        f"OVERRIDES=({shlex.join(overrides)})",
        f"PLACE={shlex.quote(sweep.place)}",
        f"HISTORY={shlex.quote(name)}-$SLURM_JOB_ID.jsonl",
    ]
    return "\n".join(["#!/bin/bash", *head, *variables]) + "\n" + BODY.read_text(encoding="utf-8")


def refuse_short_time(asked: Allocation) -> None:
    """Refuses a time limit that Slurm can't read, or that leaves no time.

    Raises:
        UserError: It is such.
    """
    seconds = time_limit_seconds(asked.time) if asked.time else None
    if seconds is not None and seconds <= asked.grace:
        remedy = "ask for more time, or set --grace lower"
        raise UserError("--time", f"must be longer than --grace, {asked.grace} s", asked.time, remedy)


def time_limit_seconds(text: str) -> int:
    """Reads a time limit as Slurm does: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S.

    Raises:
        UserError: It has none of these forms.
    """
    if match := DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    elif PLAIN.fullmatch(text):
        plain = [int(part) for part in text.split(":")]  # a single number is minutes
        days, (hours, minutes, seconds) = 0, plain if len(plain) == 3 else [0, *plain, 0][:3]
    else:
        raise UserError(
            "--time", "must be a time in one of Slurm's forms", text, "write for instance 30, 12:00:00 or 2-00"
        )
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def forecast_lines(plan: Plan, asked: Allocation) -> Iterator[str]:
    """How many allocations the sweep needs, by the plan's forecast, on each device that it knows."""
    if asked.time is None:
        return
    on_gpus = asked.gpus_per_node is not None
    for device, hours in plan.forecast.device_hours.items():
        if on_gpus != ("CPU" in device):
            number = allocations_needed(hours, asked)
            many = "allocation" if number == 1 else "allocations"
            yield f"about {hours:.2g} h on {device}: {number} {many} of {asked.time}, answers and start-up not counted"


def allocations_needed(device_hours: float, asked: Allocation) -> int:
    """How many allocations a sweep of so many device-hours takes, at the GPUs (or CPU nodes) and time asked for."""
    devices = asked.nodes * (asked.gpus_per_node or 1)
    # The grace at the end of each trains nothing.
    usable = (time_limit_seconds(str(asked.time)) - asked.grace) / 3600 * devices
    return max(1, math.ceil(device_hours / usable))


def _options(name: str, asked: Allocation) -> Iterator[str]:
    yield f"job-name={name}"
    yield f"nodes={asked.nodes}"
    yield "ntasks-per-node=1"
    for option in ("gpus_per_node", "cpus_per_task", "time", "partition", "account"):
        if (value := getattr(asked, option)) is not None:
            yield f"{option.replace('_', '-')}={value}"
    yield f"signal=B:USR1@{asked.grace}"
    yield "requeue"
    yield "open-mode=append"
    yield f"output={name}-%j.log"
    yield from asked.more
