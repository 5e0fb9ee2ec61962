"""A sweep as a job: `python -m sweeps.submit CONFIG [key=value …] --address URL`, or `--slurm`, or `--kuberay`.

On a Ray cluster also `list`, `status ID` and `stop ID`. The driver runs on the cluster's head, so the sweep outlives
this machine's connection. Requests carry Ray's token; Ray Jobs listens on loopback, which `ray dashboard` tunnels to.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shlex
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from sweeps.submit.slurm import Allocation, batch_file, forecast_lines
from trainables.errors import UserError, UserErrors
from trainables.redaction import redact

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STOP_WAIT_SECONDS = 180  # for a stopped job: lanes finish their step, the recorder its lines. Ray's default is 3.
AGENT_WAIT_SECONDS = 120.0
LOOK_EVERY_SECONDS = 1.0


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
            print(words(_ended(client, given.rest[0], STOP_WAIT_SECONDS)))
    return DONE


def submit(given: argparse.Namespace) -> int:
    """Sends code and config to the cluster, starts the sweep and follows it to its end, unless told not to wait."""
    config = load_config(given.what, given.rest)
    with tempfile.TemporaryDirectory(prefix="sweep-job-") as folder:
        for name in pack(config, Path(folder)):
            print(f"sending {name}")
        with connected(given.address) as client:
            job_id = _start(client, config.name, folder)
    print(f"job {job_id}: its files will lie in {config.place} on the cluster", flush=True)
    _tell_queued(config)
    return DONE if given.no_wait else follow(given.address, job_id)


def submit_to_slurm(given: argparse.Namespace) -> int:
    """Writes the batch file and hands it to Slurm, unless it is only to be shown."""
    config = load_config(given.what, given.rest)
    if not Path(given.what).is_file():
        raise UserError("--slurm", "must be given a file, which is read twice", given.what, "save the config as a file")
    asked = Allocation(
        nodes=given.nodes or 1,
        gpus_per_node=given.gpus_per_node,
        cpus_per_task=given.cpus_per_task,
        time=given.time,
        grace=Allocation.grace if given.grace is None else given.grace,
        partition=given.partition,
        account=given.account,
        more=tuple(given.sbatch),
    )
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
        job = _ended(client, job_id, LOOK_EVERY_SECONDS * 10)
        print(words(job))
        return NO_COMPLETE_TRIAL if job.driver_exit_code is None else int(job.driver_exit_code)


@contextmanager
def connected(address: str) -> Iterator[JobSubmissionClient]:
    """Yields a client of the cluster's Ray Jobs, with this machine's token.

    Raises:
        UserError: The cluster does not answer, refuses the token, or knows no such job.
    """
    # Without it Ray's client sends no token.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    warn_if_open(address)
    try:
        yield JobSubmissionClient(address)
    except (AuthenticationError, RuntimeError, ConnectionError, ValueError) as error:
        text = " ".join(str(error).split())
        denied = isinstance(error, AuthenticationError) or any(word in text for word in ("401", "403", "Unauth"))
        remedy = "put the cluster's token into ~/.ray/auth_token (`ray get-auth-token` on the head prints it)"
        rule = "the cluster must accept this machine's token" if denied else "the cluster's Ray Jobs must do as asked"
        raise UserError("--address", rule, text[:300], remedy if denied else "check the address and the ID") from None


def warn_if_open(address: str) -> None:
    """Warns on stderr where a cluster answers without a token: anyone who reaches it can run code there.

    Raises:
        UserError: No dashboard answers.
    """
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/jobs/", timeout=10) as answer:
            is_open = answer.status == 200
    except urllib.error.HTTPError as error:
        is_open = False
        error.close()
    except (OSError, ValueError) as error:
        remedy = "check the address; `ray dashboard cluster.yaml` opens a tunnel to it"
        raise UserError("--address", "a Ray dashboard must answer there", f"{address}: {error}", remedy) from None
    if is_open:
        print(
            f"warning: {redact(address)} answers without a token: anyone who reaches it can run code there; start the "
            "cluster with RAY_AUTH_MODE=token",
            file=sys.stderr,
        )


def _start(client: JobSubmissionClient, name: str, folder: str) -> str:
    # On a cluster that has just come up, Ray Jobs is ready a little later than its dashboard.
    deadline = time.monotonic() + AGENT_WAIT_SECONDS
    while True:
        try:
            return client.submit_job(
                entrypoint=f"python -m sweeps.run {CONFIG_FILE} --address auto",
                submission_id=f"{name}-{secrets.token_hex(3)}",
                runtime_env={
                    "working_dir": folder,
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_SECONDS), "PYTHONUNBUFFERED": "1"},
                },
                metadata={"sweep": name},
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(LOOK_EVERY_SECONDS)


async def _show(client: JobSubmissionClient, job_id: str) -> None:
    async for lines in client.tail_job_logs(job_id):
        print(lines, end="", flush=True)


def _ended(client: JobSubmissionClient, job_id: str, wait_seconds: float) -> Any:
    deadline = time.monotonic() + wait_seconds
    while not (job := client.get_job_info(job_id)).status.is_terminal() and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_SECONDS)
    return job


def words(job: Any) -> str:
    """One line on a job for the user."""
    # Ray's times are milliseconds since 1970.
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(job.start_time / 1000)) if job.start_time else "not yet"
    code = "" if job.driver_exit_code is None else f", exit code {job.driver_exit_code}"
    sweep = (job.metadata or {}).get("sweep", "no sweep")
    return f"{job.submission_id}  {str(job.status.value).lower()}{code}  {sweep}  started {began}"


if __name__ == "__main__":
    sys.exit(main())
