"""Trains one trial on a warm lane without a dispatcher."""

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
