"""The command line of `python -m sweeps.submit`: its options."""

from __future__ import annotations

import argparse

from analysis.cli import Parser
from sweeps.submit.options import KUBERAY, SLURM, add_job_options, unread

ADDRESS = "--address"
ACTIONS = ("list", "status", "stop")
EXAMPLE = """example:
  python -m sweeps.submit conf/lora_sweep.yaml search.trials=32 --address http://127.0.0.1:8265
  python -m sweeps.submit list --address http://127.0.0.1:8265
  python -m sweeps.submit stop ID --address http://127.0.0.1:8265
  python -m sweeps.submit my.yaml storage_path=/shared --slurm --nodes 2 --gpus-per-node 4 --time 8:00:00
  python -m sweeps.submit my.yaml storage_path=/mnt/shared --kuberay --image IMAGE --claim shared --dry-run

exit codes: those of the sweep; with --no-wait 0 once it is submitted; 2 wrong arguments, or no such cluster or job"""


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
    add_job_options(parser)
    given = parser.parse_intermixed_args(arguments)
    target = SLURM if given.slurm else KUBERAY if given.kuberay else ADDRESS
    wrong = unread(given, target) | {
        option: where
        for option, is_given, where in (
            ("--no-wait", given.no_wait, (ADDRESS,)),
            ("--dry-run", given.dry_run, (SLURM, KUBERAY)),
        )
        if is_given and target not in where
    }
    for option, where in wrong.items():
        parser.error(f"{option} is for {' and '.join(where)} alone")
    if given.what in ("status", "stop") and len(given.rest) != 1:
        parser.error(f"{given.what} needs the ID of one job")
    return given
