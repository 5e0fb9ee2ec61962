"""Sweeps as jobs of a Ray cluster (Ray Jobs): each has its id from the log, and outlives the service.

A cluster that has lost its head has lost its table of jobs, too: those are sent again, and resume.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.config.paths import with_absolute_paths
from sweeps.config.sweep_config import load_config
from sweeps.service.queue.entries import Entry
from sweeps.service.runs.attempts import Seen, UnreachableError, error_lines, unique_id
from sweeps.submit.job_package import CONFIG_FILE, pack
from sweeps.submit.ray_jobs import connected, start
from trainables.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

LOOK_EVERY_SECONDS = 2.0
COMMAND = ("python", "-m", "sweeps.run", CONFIG_FILE, "--resume", "auto", "--address", "auto")


class ClusterJobs:
    """Attempts at sweeps, each a Ray Job; see `Attempts`.

    Args:
        folder: The service's, as the cluster's head sees it.
        address: The cluster's dashboard.
    """

    where = "ray"
    keeps_order = False
    look_every_seconds = LOOK_EVERY_SECONDS

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address, self._warned = folder, address, False

    def begin(self, entry: Entry, config: Path, resume: Path | None, more: list[str]) -> None:
        """Sends the code and the config, and starts the job; see `Attempts`."""
        with tempfile.TemporaryDirectory(prefix="sweep-job-") as package:
            # The head is to find what the service has checked; nothing of it is sent but the config.
            pack(with_absolute_paths(load_config(config)), Path(package))
            with self._connected() as client:
                # A shell reads it: it holds nothing that a user has written.
                start(client, shlex.join([*COMMAND, *more]), self._id(entry), package, entry.name)

    def look(self, entries: Iterable[Entry]) -> dict[str, Seen]:
        """Those that have not ended live; see `Attempts`."""
        if not (asked := {entry.name: self._id(entry) for entry in entries}):
            return {}
        with self._connected() as client:
            jobs = {job.submission_id: job for job in client.list_jobs()}
        seen = {}
        for name, its in asked.items():
            job = jobs.get(its)
            ended = job is None or job.status.is_terminal()
            seen[name] = Seen(not ended, job.driver_exit_code if job and ended else None)
        return seen

    def tell_to_stop(self, entry: Entry) -> bool:
        """Stops the job, whose driver gets SIGTERM; see `Attempts`."""
        with self._connected() as client:
            return bool(client.stop_job(self._id(entry)))

    def errors(self, entry: Entry) -> str:
        """Those of the job's log; see `Attempts`."""
        try:
            with self._connected() as client:
                return error_lines(client.get_job_logs(self._id(entry)))
        except UserError:  # it is gone with its cluster
            return ""

    def _id(self, entry: Entry) -> str:
        return unique_id(entry, self._folder)

    @contextmanager
    def _connected(self) -> Iterator[JobSubmissionClient]:
        try:
            with connected(self._address, warn=not self._warned) as client:
                self._warned = True
                yield client
        except UserError as error:
            raise UnreachableError(error.where, error.rule, error.got, error.remedy) from None
