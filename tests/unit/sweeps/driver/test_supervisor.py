"""Jobs that are no trials: their ends come from the recorder, and a failed one or a stop ends the waiting."""

from types import SimpleNamespace

import pytest

from sweeps.driver.supervisor import Supervisor
from sweeps.lanes.lanes import LanesFailedError

JOBS = {"baseline:home": {"do": "baseline"}, "baseline:away": {"do": "baseline"}}


class Recorder:
    """Each wait brings the next end."""

    def __init__(self, *states):
        self.ends, self._states = {}, list(states)

    def wait_for(self, job_ids, _seconds):
        if self._states:
            self.ends[list(job_ids)[len(self.ends)]] = {"state": self._states.pop(0), "error": "E: a"}
        return self.ends.keys() >= set(job_ids)


def supervisor(*states, stop=False):
    calls = []
    lanes = SimpleNamespace(submit=lambda job_id, _work: calls.append(job_id), call=calls.append)
    flags = {"interrupt": SimpleNamespace(is_set=lambda: stop), "budget": SimpleNamespace(is_spent=lambda: False)}
    return Supervisor(SimpleNamespace(**flags), lanes, Recorder(*states), None, None), calls


def test_all_ends_are_returned_and_counted_meanwhile_and_a_failed_job_is_an_error_at_once():
    watch, calls = supervisor("complete", "complete")
    counts = []
    assert watch.run_jobs(JOBS, on_wait=counts.append).keys() == JOBS.keys()
    assert (counts, calls) == ([1, 2], list(JOBS))
    with pytest.raises(LanesFailedError, match="baseline:home could not be done: E: a"):
        supervisor("failed")[0].run_jobs(JOBS)


def test_a_stop_cancels_the_jobs():
    watch, calls = supervisor(stop=True)
    assert watch.run_jobs(JOBS) is None
    assert watch.cut_short
    assert calls[-1] == "interrupt"
