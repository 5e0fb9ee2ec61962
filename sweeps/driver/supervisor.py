"""The driver's supervisor over a running sweep: the live view, what ends, whether lanes still work, when to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sweeps.driver.checkpoint_cleanup import CheckpointCleaner
from sweeps.driver.context import Sweep
from sweeps.driver.live_view import Progress
from sweeps.driver.recorder import Recorder
from sweeps.driver.repeated_failures import IN_A_ROW, common_cause
from sweeps.lanes.lanes import Lanes, LanesFailedError
from sweeps.pruning.pruner import Pruner
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation.objective import objective
from trainables.lane.messages import Status, Work

LOOK_EVERY_SECONDS = 0.5
POLL_SECONDS = 2.0

Baseline = dict[str, dict[str, Any]]


class Supervisor(threading.Thread):
    """Looks at the dispatcher's status again and again, on a thread of its own, from `watching` on.

    Args:
        sweep: Its interrupt and its budget end the sweep.
        lanes: Who works.
        recorder: Its errors end the sweep.
        progress: The live view.
        pruner: Stops trials that are not worth their remaining steps; None where somebody else does, or nobody.

    Attributes:
        cut_short: Whether the sweep was told to end before its work was done.
        slots: Trials that each lane trains side by side; see `choose_slots`.
    """

    def __init__(
        self, sweep: Sweep, lanes: Lanes, recorder: Recorder, progress: Progress, pruner: Pruner | None
    ) -> None:
        super().__init__(daemon=True, name="supervisor")
        self.sweep, self.lanes, self.recorder, self.progress = sweep, lanes, recorder, progress
        self.pruner = pruner
        self.failure: BaseException | None = None
        self.cut_short = False
        self.slots = 1
        self._finishing = threading.Event()

    def run(self) -> None:
        """Checks and draws until `finish`; keeps an error for `check`."""
        try:
            while not self._finishing.wait(LOOK_EVERY_SECONDS):
                status = self.lanes.status()
                self.sweep.budget.hold(self.lanes.up * self.lanes.plan.workers)
                self.progress.show(status)
                self._prune(status)
                self.lanes.check(status)
                self.recorder.check()
                self._refuse_failures_alike()
        except BaseException as error:  # noqa: BLE001 - raised again in the driver's thread, by `check`
            self.failure = error

    def _refuse_failures_alike(self) -> None:
        ended = [(record["state"], record["error"]) for record in list(self.recorder.records.values())[-IN_A_ROW:]]
        if cause := common_cause(ended):
            raise LanesFailedError(f"{IN_A_ROW} trials in a row failed alike: {cause}")

    def _prune(self, status: Status) -> None:
        specs = dict(self.progress.specs)
        jobs = {job_id: job for job_id, job in status["jobs"].items() if job_id in specs}
        if self.pruner:
            self.pruner.look(specs, jobs, list(self.recorder.records.values()))

    def expect(self, trials: int) -> None:
        """So many more trials will be trained."""
        self.progress.trials += trials

    def submitted(self, spec: TrialSpec) -> None:
        """A trial was proposed: the ledger and the live view learn of it."""
        self.sweep.ledger.append("trial_submitted", spec=spec.model_dump())
        self.progress.add(spec)

    def train(self, specs: Sequence[TrialSpec], baseline: Baseline) -> None:
        """Trains trials that no search proposes, and waits until they have ended and are recorded, or for a stop.

        Raises:
            LanesFailedError: Lanes end again and again.
        """
        self.expect(len(specs))
        for spec in specs:
            self.submitted(spec)
            work: Work = {"do": "trial", "spec": spec.model_dump(), "baseline": baseline, "slots": self.slots}
            self.lanes.submit(spec.trial_id, work)
        while not all(spec.trial_id in self.recorder.records for spec in specs):
            if self.stopped():
                self.lanes.drain()
                break
            time.sleep(LOOK_EVERY_SECONDS)
        self.check()

    def run_jobs(self, jobs: dict[str, Work]) -> dict[str, dict[str, Any]] | None:
        """Has the lanes do jobs that are no trials, and waits for them.

        Returns:
            How each ended, or None when the sweep is to end before.

        Raises:
            LanesFailedError: A job fails, or lanes end again and again.
        """
        for job_id, work in jobs.items():
            self.lanes.submit(job_id, work)
        ends: dict[str, dict[str, Any]] = {}
        while len(ends) < len(jobs):
            if self.stopped():
                return None
            self.check()
            waiting = next(job_id for job_id in jobs if job_id not in ends)
            end = self.lanes.call("poll", waiting, 0, POLL_SECONDS)["end"]
            if end and end["state"] != "complete":
                raise LanesFailedError(f"{waiting} could not be done: {end.get('error')}")
            if end:
                ends[waiting] = end
                self.lanes.over({"job_id": waiting, "work": jobs[waiting], "attempt": 1, "end": end})
        return ends

    def say(self, text: str) -> None:
        """A line for the user, above the live view."""
        self.sweep.console.print(text, soft_wrap=True, highlight=False)

    def stopped(self) -> bool:
        """Whether the sweep should end now; if so its trials are cancelled, and end as interrupted."""
        stop = self.sweep.interrupt.is_set() or self.sweep.budget.is_spent() or self.failure is not None
        if stop:
            self.cut_short = True
            self.lanes.call("interrupt")
        return stop

    def finish(self) -> None:
        """Ends the thread and draws the last state."""
        self._finishing.set()
        self.join()
        self.progress.show(self.lanes.status())

    def check(self) -> None:
        """Raises here what went wrong on the supervisor's thread."""
        if self.failure:
            raise self.failure


@contextmanager
def watching(sweep: Sweep, lanes: Lanes, baseline: Baseline) -> Iterator[Supervisor]:
    """Records and shows what the lanes do while the block runs, and stops trials as `search.trial_scheduler` says."""
    config, past = sweep.config, sweep.past
    most, weights = config.resources.keep_checkpoints, config.heldout.weights
    cleaner = CheckpointCleaner(sweep.copy, sweep.ledger, most, weights, past.ended, past.contenders)
    recorder = Recorder(lanes, sweep.ledger, sweep.copy, sweep.budget, cleaner)
    sweep.budget.search_begins()
    with Progress(sweep.console, sweep.budget) as progress:
        supervisor = Supervisor(sweep, lanes, recorder, progress, _pruner(sweep, lanes, recorder, baseline))
        recorder.start()
        supervisor.start()
        try:
            yield supervisor
        finally:
            lanes.drain()
            recorder.finish()
            supervisor.finish()
    supervisor.check()


def _pruner(sweep: Sweep, lanes: Lanes, recorder: Recorder, baseline: Baseline) -> Pruner | None:
    config = sweep.config
    if config.search.trial_scheduler != "evidence":
        return None
    base = objective(baseline, config.heldout.weights)
    pruner = Pruner(config, sweep.plan.train.samples, lanes, sweep.ledger, base, sweep.past.ended, sweep.copy)
    recorder.predictions, recorder.findings = pruner.predictions, pruner.findings
    return pruner
