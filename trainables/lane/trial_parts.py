"""The jobs of a trial that pauses: its first part has the trial's id, the rest an id of its own.

A job that has ended never runs again, on no lane and after no restart of the dispatcher. So what is left of a paused
trial is another job, which resumes from the trial's stored state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.lane.messages import JobStatus

_REST = "+rest"


def rest_id(trial_id: str) -> str:
    """Id of the job that resumes a paused trial."""
    return trial_id + _REST


def trial_id_of(job_id: str) -> str:
    return job_id.removesuffix(_REST)


def has_ended(job: Mapping[str, Any]) -> bool:
    """Whether a trial, by its `JobStatus`, has ended for good."""
    return job["state"] == "ended" and not (job["end"] and job["end"]["state"] == "paused")


def by_trial(jobs: Mapping[str, JobStatus]) -> dict[str, JobStatus]:
    """Joins the two parts of each paused trial that was resumed into one status, by trial id."""
    found = {job_id: job for job_id, job in jobs.items() if trial_id_of(job_id) == job_id}
    for job_id, rest in jobs.items():
        if (trial_id := trial_id_of(job_id)) != job_id:
            found[trial_id] = _joined(found[trial_id], rest) if trial_id in found else rest
    return found


def _joined(first: JobStatus, rest: JobStatus) -> JobStatus:
    points = {point["step"]: point for point in [*first["points"], *rest["points"]]}
    joined: JobStatus = {
        **first,
        "began_at_step": first.get("step", 0),  # until the rest reports its own
        **rest,
        "points": list(points.values()),
        "attempt": first["attempt"] + rest["attempt"] - 1,
    }
    return joined
