"""What a job asks of Slurm or Kubernetes, as options of the command line, and where each of them may stand."""

from __future__ import annotations

import argparse
import re

from sweeps.submit.slurm import Allocation

SLURM, KUBERAY = "--slurm", "--kuberay"
# What the batch file counts on: one job, told before its end, that is requeued and appends to its log.
OF_THE_BATCH_FILE = (
    *("nodes", "ntasks", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "partition", "account"),
    *("job-name", "array", "signal", "requeue", "no-requeue", "open-mode", "wrap", "chdir", "export"),
)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, got {text!r}")
    return int(text)


def _word(text: str) -> str:
    # Slurm reads a batch file's options without a shell: a space or a new line would end this one.
    if not text or any(c.isspace() for c in text):
        raise argparse.ArgumentTypeError(f"must be one word, got {text!r}")
    return text


def _sbatch_option(text: str) -> str:
    option = text.strip().removeprefix("--")
    name = re.fullmatch(r"([a-z][a-z-]*)(?:[= ].*)?", option)
    if not name or not option.isprintable():
        raise argparse.ArgumentTypeError(f"must be a long option of sbatch, such as qos=long, got {text!r}")
    if name[1] in OF_THE_BATCH_FILE:
        raise argparse.ArgumentTypeError(f"must leave {name[1]} to the batch file and to options of its own")
    return option


# Name, type, where it may stand, and what it is.
JOB_OPTIONS = (
    ("nodes", _positive, (SLURM, KUBERAY), "nodes that the job asks for (1)"),
    ("gpus-per-node", _positive, (SLURM, KUBERAY), "GPUs of each"),
    ("cpus-per-task", _positive, (SLURM, KUBERAY), "CPUs of each"),
    ("time", str, (SLURM,), "Slurm's time limit: 30, 12:00:00 or 2-00"),
    ("grace", _positive, (SLURM,), "seconds before it at which the sweep begins to end in order (300)"),
    ("partition", _word, (SLURM,), "Slurm's partition"),
    ("account", _word, (SLURM,), "Slurm's account"),
    ("image", _word, (KUBERAY,), "container image with Python 3.11, Ray and this project"),
    ("claim", _word, (KUBERAY,), "ReadWriteMany volume claim, mounted at the storage path"),
    ("namespace", _word, (KUBERAY,), "Kubernetes' namespace (default)"),
    ("queue", _word, (KUBERAY,), "Kueue's local queue, which then starts the job; without it the job starts at once"),
    ("priority-class", _word, (KUBERAY,), "Kueue's workload priority class"),
)
SBATCH = ("sbatch", _sbatch_option, (SLURM,), "another option of sbatch, such as qos=long")


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a command."""
    for name, kind, _, text in JOB_OPTIONS:
        parser.add_argument(f"--{name}", type=kind, help=text)
    name, kind, _, text = SBATCH
    parser.add_argument(f"--{name}", type=kind, action="append", default=[], metavar="OPTION", help=text)


def unread(given: argparse.Namespace, target: str | None) -> dict[str, tuple[str, ...]]:
    """The options that were given and that a target does not read, each with the targets that do.

    Args:
        given: The parsed command line.
        target: `SLURM`, `KUBERAY`, or None for neither.
    """
    places = {name: where for name, _, where, _ in (*JOB_OPTIONS, SBATCH)}
    return {
        f"--{name}": where
        for name, where in places.items()
        if getattr(given, name.replace("-", "_")) and target not in where
    }


def allocation(given: argparse.Namespace) -> Allocation:
    """What is asked of Slurm."""
    return Allocation(
        nodes=given.nodes or 1,
        gpus_per_node=given.gpus_per_node,
        cpus_per_task=given.cpus_per_task,
        time=given.time,
        grace=Allocation.grace if given.grace is None else given.grace,
        partition=given.partition,
        account=given.account,
        more=tuple(given.sbatch),
    )
