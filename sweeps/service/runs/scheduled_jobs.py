"""Sweeps as jobs of Slurm, or RayJobs that Kueue lets go: order, quotas, shares and preemption are theirs."""

from __future__ import annotations

import json
import subprocess
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from sweeps.config.paths import with_absolute_paths
from sweeps.config.sweep_config import dump_config, load_config
from sweeps.service.queue.entries import Entry
from sweeps.service.runs.attempts import Seen, UnreachableError, error_lines, unique_id
from sweeps.service.runs.processes import tail
from sweeps.submit.hand_over import ANSWER_SECONDS, SilentError, hand_over
from sweeps.submit.kuberay import dns_name, ray_job
from sweeps.submit.options import allocation
from sweeps.submit.slurm import batch_file
from trainables.errors import UserError
from trainables.storage.atomic import write_whole

LOOK_EVERY_SECONDS = 10.0  # a controller serves many
REFUSED = "ask the service's admin to change its options or your queue"
GONE = 1  # exit code of a job that a scheduler no longer knows: what it came to is in its sweep's manifest
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")  # of `status.jobStatus` of a RayJob


class Scheduled(ABC):
    """What both share; see `Attempts`.

    Args:
        folder: The service's, which all nodes see.
        given: The command line's options of a job.
        queue_of: A user's account in Slurm, or queue in Kueue; None for the command line's.
    """

    where: str
    keeps_order = True
    look_every_seconds = LOOK_EVERY_SECONDS

    def __init__(self, folder: Path, given: Namespace, queue_of: Callable[[str], str | None]) -> None:
        self._service, self._folder, self._given, self._queue_of = folder, folder / "attempts", given, queue_of
        self._folder.mkdir(exist_ok=True)

    def begin(self, entry: Entry, config: Path, resume: Path | None, more: list[str]) -> None:
        """Hands the job over, which resumes a sweep that has begun; see `Attempts`."""
        try:
            said = self._hand_over(entry, config)
        except SilentError as error:
            raise UnreachableError(error.where, error.rule, error.got, error.remedy) from None
        except UserError as error:
            # A controller that is down, or that has taken the job and lost its answer, has refused nothing.
            if not self.look([entry])[entry.name].lives:
                raise
            said = str(error)
        write_whole(self._handed(entry), said)

    @abstractmethod
    def _hand_over(self, entry: Entry, config: Path) -> str: ...

    @abstractmethod
    def look(self, entries: Iterable[Entry]) -> dict[str, Seen]: ...

    def _id(self, entry: Entry) -> str:
        return unique_id(entry, self._service)

    def _asked_for(self, entry: Entry, option: str) -> Namespace:
        own = self._queue_of(entry.user)
        return Namespace(**{**vars(self._given), **({option: own} if own else {})})

    def _missing(self, entry: Entry) -> Seen:
        # Without this file it was not handed over, for the service was killed before.
        return Seen(lives=False, code=GONE if self._handed(entry).exists() else None)

    def _handed(self, entry: Entry) -> Path:
        return self._folder / f"{self._id(entry)}.handed"


class SlurmJobs(Scheduled):
    """Attempts at sweeps, each a batch job, which requeues itself until its sweep is finished."""

    where = "slurm"

    def _hand_over(self, entry: Entry, config: Path) -> str:
        asked = replace(allocation(self._asked_for(entry, "account")), name=self._id(entry), folder=self._folder)
        sweep = with_absolute_paths(load_config(config))  # a job runs in another folder
        text = batch_file(sweep, dump_config(sweep), [], asked)
        return hand_over(["sbatch"], text, "--scheduler", "start the service on a login node", self._folder, REFUSED)

    def look(self, entries: Iterable[Entry]) -> dict[str, Seen]:
        """Those that `squeue` lists live; see `Attempts`."""
        by_job = {self._id(entry): entry for entry in entries}
        if not by_job:
            return {}
        lines = _asked(["squeue", "--noheader", "--format=%j|%T|%r", f"--name={','.join(by_job)}"]).splitlines()
        listed = {name: (state, why) for name, state, why in (line.strip().split("|", 2) for line in lines if line)}
        seen = {}
        for name, entry in by_job.items():
            state, why = listed.get(name, ("", ""))
            waits = f"Slurm: {why or state}" if state == "PENDING" else ""
            seen[entry.name] = Seen(lives=True, waits_for=waits) if state else self._missing(entry)
        return seen

    def tell_to_stop(self, entry: Entry) -> bool:
        """Cancels the job, whose driver gets SIGTERM; see `Attempts`."""
        _asked(["scancel", f"--name={self._id(entry)}"])
        return True

    def errors(self, entry: Entry) -> str:
        """Those of the job's log; see `Attempts`."""
        return error_lines("\n".join(map(tail, sorted(self._folder.glob(f"{self._id(entry)}-*.log")))))


class KueueJobs(Scheduled):
    """Attempts at sweeps, each a suspended RayJob, which Kueue lets go."""

    where = "kueue"

    def _hand_over(self, entry: Entry, config: Path) -> str:
        given = self._asked_for(entry, "queue")
        if not given.queue:
            raise UserError("--queue", "must name Kueue's local queue", "none", f"or set it for {entry.user}")
        text = ray_job(with_absolute_paths(load_config(config)), given, self._id(entry))
        return hand_over(["kubectl", "apply", "-f", "-"], text, "--scheduler", "install it", remedy=REFUSED)

    def look(self, entries: Iterable[Entry]) -> dict[str, Seen]:
        """Those whose RayJob has not ended live; see `Attempts`."""
        by_job = {dns_name(self._id(entry)): entry for entry in entries}
        if not by_job:
            return {}
        answer = _asked(["kubectl", "get", "rayjobs", *self._namespace, "--output=json"])
        found = {job["metadata"]["name"]: job for job in json.loads(answer)["items"]}
        return {entry.name: self._seen(entry, found.get(name)) for name, entry in by_job.items()}

    def _seen(self, entry: Entry, job: dict[str, dict[str, object]] | None) -> Seen:
        if job is None:
            return self._missing(entry)
        status = job.get("status") or {}
        if status.get("jobStatus") in ENDED or status.get("jobDeploymentStatus") == "Failed":
            return Seen(lives=False, code=GONE)
        return Seen(lives=True, waits_for="Kueue: suspended" if job["spec"].get("suspend") else "")

    def tell_to_stop(self, entry: Entry) -> bool:
        """Deletes the RayJob, whose pods get SIGTERM; see `Attempts`."""
        _asked(["kubectl", "delete", "rayjob", dns_name(self._id(entry)), *self._namespace, "--wait=false"])
        return True

    def errors(self, entry: Entry) -> str:
        """None are kept: the pods' logs are Kubernetes'."""
        return ""

    @property
    def _namespace(self) -> list[str]:
        return [f"--namespace={self._given.namespace or 'default'}"]


def _asked(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError("--scheduler", f"{command[0]} must answer", error, "see the scheduler") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[:300]
        raise UnreachableError("--scheduler", f"{command[0]} must answer", said, "see the scheduler")
    return done.stdout
