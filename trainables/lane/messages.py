"""Messages between the driver, Tune trials, the dispatcher and the lanes.

Plain dicts at run time: every process can unpickle them, and a dispatcher that restarts reads those of its predecessor.
"""

from __future__ import annotations

from typing import Any, Literal, Required, TypedDict

from trainables.diagnostics.finding import Finding

Areas = dict[str, dict[str, Any]]

RELEASED = "released"  # why a lane drops a job that another lane goes on with: the sweep gives this lane back


class Work(TypedDict, total=False):
    """A job's instructions for a lane; `trainables.lane.jobs.run_job` and `TrialJob` say what each `do` reads."""

    do: Required[Literal["trial", "baseline", "sealed", "base_losses", "slots", "rehearsal"]]
    spec: dict[str, Any]
    baseline: Areas
    pause_at: float | None  # fraction of the epoch after which the trial ends as paused, to be resumed by another job
    keep_at: float  # of a trial of kind "retrain": fraction of the epoch of the checkpoint that is wanted
    slots: int  # trials on one copy of the base model; 1 where the trial must be trained with no other
    area: str
    trial: dict[str, Any] | None
    cache: str | None
    asked: int | Literal["auto"]
    params: dict[str, float]


class JobEnd(TypedDict, total=False):
    """How a job ended; only `state` is there for every kind of job."""

    state: Required[str]
    error: str | None
    steps: int
    samples_seen: int
    # Of a trial that was trained:
    spec: dict[str, Any]
    precision: str
    steps_planned: int
    went_on_from_step: int | None
    checkpoints: list[dict[str, Any]]
    findings: list[Finding]
    cost: dict[str, Any]
    # Of held-out scores:
    summary: dict[str, Any]
    lines: str
    # Of the measurement of slots (`trainables.packing.autotune.Slots`):
    slots: int
    obstacle: str | None
    seconds_per_step: dict[int, float]
    speed_up: float | None
    # Of the rehearsal (`trainables.training.rehearsal.Rehearsal`):
    device: str
    memory_bytes: int | None
    peak_bytes: int | None
    longest_tokens: int
    samples: int
    micro_batch_tokens: int | None
    refusal: str | None


# --- reports of a lane --------------------------------------------------------------------------------------------


class Progress(TypedDict, total=False):
    """A trial's last step, for the live view; may come late or not at all."""

    kind: Required[Literal["progress"]]
    step: int
    steps: int
    began_at_step: int
    loss: float
    lr: float
    doing: str  # "scoring" or "answering" held-out items at a checkpoint; missing in training
    share: float  # of the items of all areas for which that is done, 0 to 1


class AreasReport(TypedDict, total=False):
    """The held-out scores of a checkpoint; `seq` counts a trial's checkpoints from 1."""

    kind: Required[Literal["areas"]]
    seq: Required[int]
    areas: Required[Areas]
    objective: Required[float]
    step: int
    fraction: float


class DiskFull(TypedDict):
    """The file that found no room, and the system's reason."""

    file: str
    reason: str


class ErrorReport(TypedDict, total=False):
    """A job went wrong; `shared` where other jobs took part in the failed step."""

    kind: Required[Literal["error"]]
    error: Required[str]
    shared: bool
    disk_full: DiskFull  # the sweep ends for it, and the job counts no failure


class EndReport(TypedDict):
    """A job is over."""

    kind: Literal["end"]
    end: JobEnd


class NoticeReport(TypedDict):
    """A line for the user's terminal, of no job."""

    kind: Literal["notice"]
    level: Literal["info", "warning"]
    text: str


Report = Progress | AreasReport | ErrorReport | EndReport | NoticeReport


# --- answers of the dispatcher ------------------------------------------------------------------------------------


class Leased(TypedDict):
    """A lane gets a job."""

    do: Literal["work"]
    job_id: str
    attempt: int


class NotLeased(TypedDict):
    """A lane gets no job: it asks again ("wait") or ends ("stop")."""

    do: Literal["wait", "stop"]


class PollAnswer(TypedDict):
    """A job's new reports; `known` False asks for another submission, `end` is None while the job goes on."""

    known: bool
    reports: list[AreasReport]
    end: JobEnd | None


class EndedJob(TypedDict, total=False):
    """A job that ended, as the recorder reads it."""

    job_id: Required[str]
    work: Required[Work | None]
    attempt: Required[int]
    preempted: int
    end: Required[JobEnd]


class EndedJobs(TypedDict):
    """Jobs that ended, in order; `born` names the dispatcher that counts them."""

    born: int
    ended: list[EndedJob]


class LatestReport(TypedDict, total=False):
    """The newest values of a running trial."""

    kind: str
    step: int
    steps: int
    began_at_step: int
    loss: float
    lr: float
    doing: str  # "scoring" or "answering" held-out items at a checkpoint; missing in training
    share: float  # of the items of all areas for which that is done, 0 to 1
    areas: Areas
    objective: float


class Point(TypedDict):
    """The objective at a checkpoint."""

    step: int
    objective: float


class JobStatus(LatestReport, total=False):
    """A job in the live view."""

    job_id: Required[str]
    state: Required[Literal["queued", "running", "ended"]]
    attempt: Required[int]
    lane: Required[str | None]
    end: Required[JobEnd | None]
    points: Required[list[Point]]


class LaneStatus(TypedDict):
    """A lane in the live view."""

    idle_incarnations: int
    up: bool


class Notice(TypedDict):
    """A notice as the driver reads it."""

    level: Literal["info", "warning"]
    text: str


class Status(TypedDict):
    """Jobs that changed since the marks `born` and `changes` of the last status, all lanes and all notices."""

    jobs: dict[str, JobStatus]
    lanes: dict[str, LaneStatus]
    notices: list[Notice]
    born: int
    changes: int
    disk_full: DiskFull | None
