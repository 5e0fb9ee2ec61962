"""Jobs of a Ray cluster: a client with this machine's token, and jobs started, waited for and told in a line."""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError
from trainables.redaction import redact

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STOP_WAIT_SECONDS = 180  # for a stopped job: lanes finish their step, the recorder its lines. Ray's default is 3.
AGENT_WAIT_SECONDS = 120.0
LOOK_EVERY_SECONDS = 1.0


@contextmanager
def connected(address: str, *, warn: bool = True) -> Iterator[JobSubmissionClient]:
    """Yields a client of the cluster's Ray Jobs, with this machine's token.

    Args:
        address: The cluster's dashboard.
        warn: Whether to warn on stderr where the cluster answers without a token.

    Raises:
        UserError: The cluster does not answer, refuses the token, or knows no such job.
    """
    # Without it Ray's client sends no token.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    if warn:
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


def start(client: JobSubmissionClient, command: str, job_id: str, folder: str, sweep: str) -> str:
    """Starts a job and returns its id.

    Args:
        client: Of the cluster.
        command: The job's command line, for a shell.
        job_id: Its id.
        folder: Becomes its working directory, on the cluster.
        sweep: The sweep's name.
    """
    # On a cluster that has just come up, Ray Jobs is ready a little later than its dashboard.
    deadline = time.monotonic() + AGENT_WAIT_SECONDS
    while True:
        try:
            return client.submit_job(
                entrypoint=command,
                submission_id=job_id,
                runtime_env={
                    "working_dir": folder,
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_SECONDS), "PYTHONUNBUFFERED": "1"},
                },
                metadata={"sweep": sweep},
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(LOOK_EVERY_SECONDS)


def ended(client: JobSubmissionClient, job_id: str, wait_seconds: float) -> Any:
    """The job once it has ended, or as it is after so many seconds."""
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
