"""Trains one trial on a warm lane without a dispatcher."""

from collections.abc import Callable
from typing import Any

from trainables.lane.trial_job import Report, TrialJob
from trainables.lane.warm_state import LaneState


def train_trial(
    lane_state: LaneState,
    work: dict[str, Any],
    report: Callable[[Report], None] = lambda message: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Train a trial to its end; return what its line in `trials.jsonl` needs.

    Args:
        lane_state: The warm lane.
        work: As for `TrialJob`.
        report: Called with the trial's reports.
        should_stop: Asked before every step.
    """
    job = TrialJob(lane_state, work, report, should_stop)
    try:
        return job.end(lane_state.loop.train(job.begin()))
    except BaseException:
        job.failed()
        raise
    finally:
        job.pending.settle()
