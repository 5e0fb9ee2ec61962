"""What a job asks of Slurm or Kubernetes, as options of the command line."""

from __future__ import annotations

import argparse

from sweeps.submit.slurm import Allocation

JOB_OPTIONS = (
    ("nodes", int, "nodes that the job asks for (1)"),
    ("gpus-per-node", int, "GPUs of each"),
    ("cpus-per-task", int, "CPUs of each"),
    ("time", str, "Slurm's time limit: 30, 12:00:00 or 2-00"),
    ("grace", int, "seconds before it at which the sweep begins to end in order (300)"),
    ("partition", str, "Slurm's partition"),
    ("account", str, "Slurm's account"),
    ("image", str, "container image with Python 3.11, Ray and this project"),
    ("claim", str, "ReadWriteMany volume claim, mounted at the storage path"),
    ("namespace", str, "Kubernetes' namespace (default)"),
    ("queue", str, "Kueue's local queue, which then starts the job; without it the job starts at once"),
    ("priority-class", str, "Kueue's workload priority class"),
)


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a command."""
    for name, kind, text in JOB_OPTIONS:
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help="another option of sbatch, such as qos=long"
    )


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
