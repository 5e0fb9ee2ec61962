"""A sweep as a job: `python -m sweeps.submit CONFIG [key=value …] --address URL`, or `--slurm`, or `--kuberay`.

On a Ray cluster also `list`, `status ID` and `stop ID`. The driver runs on the cluster's head, so the sweep outlives
this machine's connection. Requests carry Ray's token; Ray Jobs listens on loopback, which `ray dashboard` tunnels to.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cli import DONE, INTERRUPTED, NO_COMPLETE_TRIAL, run
from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.folder.sweep_folder import draft_folder
from sweeps.folder.sweep_store import SweepStore
from sweeps.notify.messages import tell_now
from sweeps.plan.plan import Plan, make_plan
from sweeps.plan.resumed import unchanged
from sweeps.submit.arguments import ACTIONS, parse
from sweeps.submit.hand_over import hand_over
from sweeps.submit.job_package import CONFIG_FILE, pack
from sweeps.submit.kuberay import ray_job
from sweeps.submit.options import allocation
from sweeps.submit.ray_jobs import LOOK_EVERY_SECONDS, STOP_WAIT_SECONDS, connected, ended, start, words
from sweeps.submit.slurm import batch_file, forecast_lines
from trainables.errors import UserError, UserErrors
from trainables.redaction import redact

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    return run(lambda: act(given))


def act(given: argparse.Namespace) -> int:
    """Runs the command line's action; returns the exit code."""
    if given.slurm:
        return submit_to_slurm(given)
    if given.kuberay:
        return submit_to_kuberay(given)
    if given.what not in ACTIONS:
        return submit(given)
    with connected(given.address) as client:
        if given.what == "list":
            # Jobs without a submission id are drivers that were started by hand.
            jobs = [job for job in client.list_jobs() if job.submission_id]
            for job in sorted(jobs, key=lambda job: job.start_time or 0):
                print(words(job))
        elif given.what == "status":
            print(words(client.get_job_info(given.rest[0])))
        else:
            client.stop_job(given.rest[0])
            print(words(ended(client, given.rest[0], STOP_WAIT_SECONDS)))
    return DONE


def submit(given: argparse.Namespace) -> int:
    """Sends code and config to the cluster, starts the sweep and follows it to its end, unless told not to wait."""
    config = load_config(given.what, given.rest)
    with tempfile.TemporaryDirectory(prefix="sweep-job-") as folder:
        for name in pack(config, Path(folder)):
            print(f"sending {name}")
        with connected(given.address) as client:
            command = f"python -m sweeps.run {CONFIG_FILE} --address auto"
            job_id = start(client, command, f"{config.name}-{secrets.token_hex(3)}", folder, config.name)
    print(f"job {job_id}: its files will lie in {config.place} on the cluster", flush=True)
    _tell_queued(config)
    return DONE if given.no_wait else follow(given.address, job_id)


def submit_to_slurm(given: argparse.Namespace) -> int:
    """Writes the batch file and hands it to Slurm, unless it is only to be shown."""
    config = load_config(given.what, given.rest)
    if not Path(given.what).is_file():
        raise UserError("--slurm", "must be given a file, which is read twice", given.what, "save the config as a file")
    asked = allocation(given)
    text = batch_file(config, Path(given.what).read_text(encoding="utf-8-sig"), given.rest, asked)
    if given.dry_run:
        print(text, end="")
        return DONE
    for line in forecast_lines(planned(config, given.what, given.rest), asked):
        print(line)
    print(hand_over(["sbatch"], text, "--slurm", "run this on a login node, or write the file with --dry-run"), end="")
    _tell_queued(config)
    return DONE


def _tell_queued(config: SweepConfig) -> None:
    for failure in tell_now(config, "queued", "handed to a queue."):
        print(f"warning: {failure}", file=sys.stderr)


def planned(config: SweepConfig, config_path: str, overrides: list[str]) -> Plan:
    """The pre-flight of the config's sweep, made here, before hours are waited for in a queue.

    Raises:
        UserError, UserErrors: The sweep could not start, or could not go on.
    """
    before = SweepStore.of_reader(config.place)
    if before.is_taken():  # as after scancel: the job resumes it
        before.fetch_top_files()
        return unchanged(before.folder, config_path, overrides)[1]
    with draft_folder(config) as draft:
        plan = make_plan(config, draft)
    if plan.failures:
        raise UserErrors(plan.failures)
    return plan


def submit_to_kuberay(given: argparse.Namespace) -> int:
    """Writes the RayJob and applies it, unless it is only to be shown."""
    config = load_config(given.what, given.rest)
    text = ray_job(config, given)
    if not given.dry_run:
        text = hand_over(["kubectl", "apply", "-f", "-"], text, "--kuberay", "install it, or use --dry-run")
        _tell_queued(config)
    print(text, end="")
    return DONE


def follow(address: str, job_id: str) -> int:
    """Prints a job's log until it ends; returns the sweep's exit code. Ctrl-C ends the printing, not the job."""
    with connected(address) as client:
        try:
            asyncio.run(_show(client, job_id))
        except KeyboardInterrupt:
            stop = f"python -m sweeps.submit stop {job_id} --address {shlex.quote(redact(address))}"
            print(f"\nthe job goes on; to stop it: {stop}")
            return INTERRUPTED
        job = ended(client, job_id, LOOK_EVERY_SECONDS * 10)
        print(words(job))
        return NO_COMPLETE_TRIAL if job.driver_exit_code is None else int(job.driver_exit_code)


async def _show(client: JobSubmissionClient, job_id: str) -> None:
    async for lines in client.tail_job_logs(job_id):
        print(lines, end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
