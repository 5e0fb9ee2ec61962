"""Trains one trial on a warm lane without a dispatcher, to its end or until its worker is killed."""

from trainables.lane.trial_job import TrialJob


def train_trial(lane_state, work, report=lambda message: None, should_stop=lambda: False, interrupted=lambda: False):
    """Train a trial to its end; return what its line in `trials.jsonl` needs. Arguments as for `TrialJob`."""
    job = TrialJob(lane_state, work, report, should_stop, interrupted)
    try:
        return job.end(lane_state.loop.train(job.begin()))
    except BaseException:
        job.failed()
        raise
    finally:
        job.pending.settle()


class Killed(BaseException):
    """What ends a worker: no `except Exception` sees it."""


def attempt(lane_state, work, report=lambda message: None, killed_after=None):
    """Train a trial; return its end, or None where its worker is killed after so many steps and a fresh one follows."""
    asked = []

    def should_stop():
        asked.append(1)
        if killed_after is not None and len(asked) > killed_after:
            raise Killed
        return False

    try:
        return train_trial(lane_state, work, report, should_stop)
    except Killed:
        lane_state.recover()
        return None
