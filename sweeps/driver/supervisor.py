"""The driver's supervision of a running sweep: live view, lane health, early stopping, and when to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sweeps.driver.checkpoint_cleanup import CheckpointCleaner
from sweeps.driver.context import Sweep
from sweeps.driver.live.view import Progress
from sweeps.driver.recorder import Recorder
from sweeps.driver.repeated_failures import IN_A_ROW, common_cause
from sweeps.folder.dropped_trials import asked_to_drop
from sweeps.lanes.cluster import waiting_words
from sweeps.lanes.lane_share import lanes_needed
from sweeps.lanes.lanes import Lanes, LanesFailedError
from sweeps.ledger.trial_record import Areas
from sweeps.notify.messages import Messenger
from sweeps.pruning.pruner import Pruner
from trainables.config.trial_spec import TrialSpec
from trainables.diagnostics.finding import Evidence, Finding
from trainables.lane.messages import JobEnd, Status, Work
from trainables.lane.trial_parts import by_trial

CHECK_EVERY_SECONDS = 0.5
SAY_WAITING_EVERY_SECONDS = 20.0


class Supervisor(threading.Thread):
    """Checks the dispatcher's status twice a second, on a thread of its own, from `supervised` on.

    Attributes:
        pruner: Stops trials not worth their remaining steps; None for another trial scheduler.
        cut_short: Whether the sweep was told to end before its work was done.
        slots: Trials that each lane trains side by side; see `choose_slots`.
        to_come: Trials that the search may propose still; None before that is known.
    """

    def __init__(
        self,
        sweep: Sweep,
        lanes: Lanes,
        recorder: Recorder,
        progress: Progress,
        pruner: Pruner | None,
        messenger: Messenger,
    ) -> None:
        super().__init__(daemon=True, name="supervisor")
        self.sweep, self.lanes, self.recorder = sweep, lanes, recorder
        self.progress, self.pruner, self._messenger = progress, pruner, messenger
        self.failure: BaseException | None = None
        self.cut_short = False
        self.slots = 1
        self.to_come: Callable[[], int | None] = lambda: None
        self._finishing = threading.Event()
        self._wait_said = time.monotonic()
        self._dropped: set[str] = set()

    def run(self) -> None:
        try:
            while not self._finishing.wait(CHECK_EVERY_SECONDS):
                status = self.lanes.status()
                self.sweep.budget.hold(self.lanes.up * self.lanes.plan.workers)
                self._say_needs(status)
                self._say_if_waiting()
                self.progress.show(status)
                self._prune(status)
                self._drop(status)
                self.lanes.check(status)
                self.recorder.check()
                self._tell_news()
                self._refuse_repeated_failures()
        except BaseException as error:  # noqa: BLE001 - raised again in the driver's thread, by `check`
            self.failure = error

    def _say_needs(self, status: Status) -> None:
        to_come = self.to_come()
        self.lanes.needed = None if to_come is None else lanes_needed(status["jobs"].values(), to_come, self.slots)

    def _say_if_waiting(self) -> None:
        now = time.monotonic()
        if self.lanes.up:
            self._wait_said = now
        elif now - self._wait_said >= SAY_WAITING_EVERY_SECONDS:
            self._wait_said = now
            words = waiting_words(self.lanes.plan)
            self.say(words)
            self._messenger.tell("waiting", words)

    def _tell_news(self) -> None:
        self._messenger.look(self.sweep.budget.spent_hours(), list(self.recorder.records.values()))

    def _refuse_repeated_failures(self) -> None:
        ended = [(record["state"], record["error"]) for record in list(self.recorder.records.values())[-IN_A_ROW:]]
        if cause := common_cause(ended):
            raise LanesFailedError(f"{IN_A_ROW} trials in a row failed alike: {cause}")

    def _prune(self, status: Status) -> None:
        if self.pruner:
            specs = dict(self.progress.specs)  # a copy: the driver's thread adds trials meanwhile
            jobs = {trial_id: job for trial_id, job in by_trial(status["jobs"]).items() if trial_id in specs}
            self.pruner.update(specs, jobs, [*self.sweep.past.ended, *self.recorder.records.values()])

    def _drop(self, status: Status) -> None:
        """Ends the trials that a user has dropped."""
        asked = asked_to_drop(self.sweep.store.folder)
        for trial_id, job in by_trial(status["jobs"]).items() if asked else ():
            spec, step = self.progress.specs.get(trial_id), job.get("step")
            runs = job["state"] == "running" and step and spec and spec.kind == "search"
            if not runs or trial_id not in asked or trial_id in self._dropped:
                continue
            self._dropped.add(trial_id)
            user = asked[trial_id]
            self.sweep.stopped.findings[trial_id] = dropped_finding(user, step or 1)
            self.sweep.ledger.append("trial_dropped", trial_id=trial_id, user=user, step=step)
            self.lanes.cancel(job["job_id"], "pruned")
            self.say(f"{trial_id}: dropped by {user} at step {step}")

    def expect(self, trials: int, epochs: float | None = None) -> None:
        """Adds to the trials that the live view counts on, and to the epochs (one each, if not given) to train."""
        self.progress.trials += trials
        self.progress.epochs += trials if epochs is None else epochs

    def affordable(self, epochs: float) -> bool:
        """Whether the budget pays for so many epochs more, at the speed so far; yes before a speed is known."""
        cap, progress = self.sweep.budget.cap_hours, self.progress
        cost = self.sweep.budget.forecast_hours(progress.done, progress.done + epochs)
        return cap is None or cost is None or cost <= cap

    def submitted(self, spec: TrialSpec) -> None:
        """Records a proposed trial in the ledger, then shows it."""
        self.sweep.ledger.append("trial_submitted", spec=spec.model_dump())
        self.progress.add(spec)

    def train(self, specs: Sequence[TrialSpec], baseline: Areas, keep_at: float | None = None) -> None:
        """Trains trials that no search proposes, and waits until they are recorded or the sweep is to end.

        Args:
            specs: The trials.
            baseline: The base model's scores by area.
            keep_at: Fraction of the epoch of the checkpoint that is wanted of a trial of kind "retrain".

        Raises:
            LanesFailedError: Lanes end again and again.
        """
        self.expect(len(specs))
        for spec in specs:
            self.submitted(spec)
            work: Work = {"do": "trial", "spec": spec.model_dump(), "baseline": baseline, "slots": self.slots}
            if keep_at is not None:
                work["keep_at"] = keep_at
            self.lanes.submit(spec.trial_id, work)
        while not self.recorder.wait_for([spec.trial_id for spec in specs], CHECK_EVERY_SECONDS):
            if self.stopped():
                self.lanes.drain()
                break
        self.check()

    def run_jobs(
        self,
        jobs: Mapping[str, Work],
        *,
        on_wait: Callable[[int], None] = lambda _done: None,
        failure: Callable[[str], str] = "{} could not be done".format,
    ) -> dict[str, JobEnd] | None:
        """Runs jobs that are no trials on the lanes, and waits for them.

        Args:
            jobs: Each job's work by its id.
            on_wait: Called twice a second with the number of jobs that have ended.
            failure: The error's first words for the id of a job that failed.

        Returns:
            How each ended, or None if the sweep is to end first.

        Raises:
            LanesFailedError: A job fails, or lanes end again and again.
        """
        for job_id, work in jobs.items():
            self.lanes.submit(job_id, work)
        all_done = False
        while not all_done:
            if self.stopped():
                return None
            all_done = self.recorder.wait_for(jobs.keys(), CHECK_EVERY_SECONDS)
            ends = {job_id: self.recorder.ends[job_id] for job_id in jobs if job_id in self.recorder.ends}
            for job_id, end in ends.items():
                if end["state"] != "complete":
                    raise LanesFailedError(f"{failure(job_id)}: {end.get('error')}")
            on_wait(len(ends))
        return ends

    def say(self, text: str) -> None:
        """Prints a line for the user, above the live view."""
        self.sweep.console.print(text, soft_wrap=True, highlight=False)

    def stopped(self) -> bool:
        """Whether the sweep should end now. If so its jobs are cancelled, and end as interrupted."""
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
        """Raises an error of the supervisor's thread in the caller's."""
        if self.failure:
            raise self.failure


def dropped_finding(user: str, step: int) -> Finding:
    """The finding of a trial that a user has dropped at a step."""
    evidence: Evidence = {"by": user, "from_step": step, "to_step": step}
    return Finding(rule="dropped", severity="info", step=step, evidence=evidence, advice=f"none: {user} has stopped it")


@contextmanager
def supervised(sweep: Sweep, lanes: Lanes) -> Iterator[Supervisor]:
    """Starts the recorder and the supervisor, and ends them after the jobs when the block ends."""
    config, past = sweep.config, sweep.past
    most, weights = config.resources.keep_checkpoints, config.heldout.weights
    measure = config.objective.measure
    cleaner = CheckpointCleaner(sweep.store, sweep.ledger, most, weights, past.ended, past.contenders, measure)
    recorder = Recorder(sweep, lanes, cleaner)
    pruner = None
    if config.search.trial_scheduler in ("pause", "evidence"):
        pruner = Pruner(config, sweep.plan.train.samples, lanes, sweep.ledger, sweep.store, sweep.stopped)
    fractions = config.trial_training.checkpoints_at

    def warn(line: str) -> None:
        sweep.console.print(f"warning: {line}", soft_wrap=True, highlight=False, markup=False)

    with (
        Messenger(config, warn) as messenger,
        Progress(sweep.console, sweep.budget, measure=measure, checkpoints_at=fractions) as progress,
    ):
        messenger.tell("started", f"{lanes.plan.words()}.", resumed=bool(past.ended or past.paused))
        supervisor = Supervisor(sweep, lanes, recorder, progress, pruner, messenger)
        recorder.start()
        supervisor.start()
        try:
            yield supervisor
        finally:
            # In this order: trials end, then the recorder reads their ends, then the live view shows them. Other jobs
            # are not waited for: nothing of an unfinished one is kept.
            if progress.specs:
                lanes.drain()
            recorder.finish()
            supervisor.finish()
            messenger.look(sweep.budget.spent_hours(), recorder.records.values())
    supervisor.check()
