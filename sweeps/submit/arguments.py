"""The command line of `python -m sweeps.submit`: its options, and where each of them may stand."""

from __future__ import annotations

import argparse

from analysis.cli import Parser

ACTIONS = ("list", "status", "stop")
EXAMPLE = """example:
  python -m sweeps.submit conf/lora_sweep.yaml search.trials=32 --address http://127.0.0.1:8265
  python -m sweeps.submit list --address http://127.0.0.1:8265
  python -m sweeps.submit stop ID --address http://127.0.0.1:8265
  python -m sweeps.submit my.yaml storage_path=/shared --slurm --nodes 2 --gpus-per-node 4 --time 8:00:00
  python -m sweeps.submit my.yaml storage_path=/mnt/shared --kuberay --image IMAGE --claim shared --dry-run

exit codes: those of the sweep; with --no-wait 0 once it is submitted; 2 wrong arguments, or no such cluster or job"""


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
    if not option or not option.isprintable():
        raise argparse.ArgumentTypeError(f"must be an option of sbatch, such as qos=long, got {text!r}")
    return option


SLURM, KUBERAY, ADDRESS = "--slurm", "--kuberay", "--address"
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
)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line; an option that its target does not read is an error."""
    parser = Parser("python -m sweeps.submit", "Runs a sweep as a job of a Ray cluster, Slurm or Kubernetes.", EXAMPLE)
    parser.add_argument("what", metavar="CONFIG", help="a YAML file to submit; or list, status or stop")
    parser.add_argument("rest", nargs="*", metavar="key=value", help="replaces a value of the config; or the job's ID")
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument(ADDRESS, metavar="URL", help="the dashboard of a Ray cluster that is up")
    to.add_argument(SLURM, action="store_true", help="as a Slurm job, requeued until the sweep is finished")
    to.add_argument(KUBERAY, action="store_true", help="as a RayJob of KubeRay")
    parser.add_argument("--no-wait", action="store_true", help="with --address: return when the job is submitted")
    parser.add_argument("--dry-run", action="store_true", help="print the batch file or RayJob, and submit nothing")
    for name, kind, _, text in JOB_OPTIONS:
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument(
        "--sbatch",
        action="append",
        type=_sbatch_option,
        default=[],
        metavar="OPTION",
        help="another option of sbatch, such as qos=long",
    )
    given = parser.parse_intermixed_args(arguments)
    target = SLURM if given.slurm else KUBERAY if given.kuberay else ADDRESS
    places = {"no-wait": (ADDRESS,), "dry-run": (SLURM, KUBERAY), "sbatch": (SLURM,)}
    places |= {name: where for name, _, where, _ in JOB_OPTIONS}
    for name, where in places.items():
        if getattr(given, name.replace("-", "_")) and target not in where:
            parser.error(f"--{name} is for {' and '.join(where)} alone")
    if given.what in ("status", "stop") and len(given.rest) != 1:
        parser.error(f"{given.what} needs the ID of one job")
    return given
