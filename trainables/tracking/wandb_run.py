"""W&B: one run a trial, and nothing that W&B does can stop, slow or fail the trial.

Rank 0 of a lane tracks its trials, each from a thread of its own: a server that hangs costs the trial no time. The
trial's own files hold everything that W&B would have shown.
"""

from __future__ import annotations

import logging
import queue
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.config.sections import WandbConfig
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation.objective import Measure
from trainables.tracking import wandb_client
from trainables.tracking.run_facts import OBJECTIVE, Scores, area_row, run_name, speed_row, step_row

if TYPE_CHECKING:
    from wandb import Run

    from trainables.training.curve_recorder import StepRecord

TIMEOUT_SECONDS = 20.0

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_active: dict[tuple[Path, str, str], Tracker] = {}


class Tracker:
    """The W&B run of one trial. No method raises, and none but `wait` waits for W&B.

    The first error is one warning in the log. A run that can't be opened online is written offline; after any other
    error the trial is not tracked.

    The run's id is a hash of the sweep's name, the output folder's own id and the trial's id. A trial that is run again
    continues its run; the same name in another folder starts another. Call `start` first and `finish` last.

    Args:
        wandb: Where runs go. Mode "auto" follows `WANDB_MODE` and `wandb offline`; else it is online if W&B knows an
            API key (environment, netrc, settings), and offline if not.
        sweep: The sweep's name, which groups its runs.
        output_dir: The sweep's folder; W&B writes to `wandb/` in it.
        timeout_seconds: Longest time for opening a run, and for uploading the rest of one at its end.

    Attributes:
        off: Whether nothing is tracked: mode "disabled", or after an error.
    """

    service = "W&B"  # its name in warnings

    def __init__(
        self, wandb: WandbConfig, sweep: str, output_dir: str, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.off = wandb.mode == "disabled"
        self._config = wandb
        self._sweep = sweep
        self._trial_id = ""
        self._folder = Path(output_dir).absolute()
        self._timeout_seconds = timeout_seconds
        # What to write, then the run's exit code.
        self._queue: queue.SimpleQueue[Callable[[Run], None] | int] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None
        self._warned = False

    def start(
        self, spec: TrialSpec, settings: Mapping[str, Any], measure: Measure | None = None, notes: str = ""
    ) -> None:
        """Opens the trial's run, in the background; its job type is the trial's kind.

        Args:
            spec: The trial; its hyper-parameters, seed and kind go into the run's config.
            settings: More for the run's config, such as the model and the training section. It is stored as it is, so
                it must hold no secret. The trial's own values win over equal names in it.
            measure: What decides, whose best value W&B keeps as `objective` in the summary; None for the loss.
            notes: The run's notes, such as the sweep's purpose.
        """
        if self.off:
            return
        self._trial_id = spec.trial_id
        config = {**settings, **spec.params, "seed": spec.seed, "kind": spec.kind, "replicate_of": spec.replicate_of}
        about = {"name": run_name(self._sweep, spec), "job_type": spec.kind, "notes": notes or None, "config": config}
        key = (self._folder, spec.trial_id, self.service)
        with _lock:
            earlier, _active[key] = _active.get(key), self
        self._thread = threading.Thread(
            target=self._write_all, args=(key, about, measure or Measure(), earlier), daemon=True
        )
        self._thread.start()

    def steps(self, records: Sequence[StepRecord]) -> None:
        """Logs the `step_row` of each step."""
        records = list(records)  # the caller may reuse its list before the thread reads it

        def write(run: Run) -> None:
            for record in records:
                run.log(step_row(record))

        self._put(write)

    def speed(self, line: Mapping[str, Any]) -> None:
        """Logs the `speed_row` of a line of `speed.jsonl`."""
        row = speed_row(line)
        self._put(lambda run: run.log(row))

    def areas(
        self, step: int, summaries: Scores, baseline: Scores | None, means: Mapping[str, float] | None = None
    ) -> None:
        """Logs the `area_row` of a checkpoint; the number of `items` of each area goes into the run's summary only.

        Args:
            step: The checkpoint's; 0 for the base model.
            summaries: Its scores by area.
            baseline: The base model's, for the gain; None for no gain.
            means: Metrics over all areas, as `run_facts.mean_row` gives them.
        """

        def write(run: Run) -> None:
            run.log({**area_row(step, summaries, baseline), **(means or {})})
            items = {area: scores.get("items") for area, scores in summaries.items()}
            run.summary.update({f"heldout/{area}/items": int(n) for area, n in items.items() if n is not None})

        self._put(write)

    def finish(self, state: str, verdict: Mapping[str, Any]) -> None:
        """Writes the verdict into the run's summary and closes the run, in the background.

        Args:
            state: How the trial ended. Only "failed" gives the run exit code 1: diverged and pruned are results.
            verdict: What is known of the trial, as JSON values; stored as `verdict` with `state` in it.
        """
        self._put(lambda run: run.summary.update({"verdict": {**verdict, "state": state}}))
        self._queue.put(int(state == "failed"))

    def abandon(self) -> None:
        """Closes the run, in the background, as it is: as failed if the trial has not finished."""
        self._queue.put(1)

    def wait(self, timeout_seconds: float) -> bool:
        """Waits until the run is closed, at most this many seconds; says whether it is."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout_seconds))
        return self._thread is None or not self._thread.is_alive()

    def _put(self, write: Callable[[Run], None]) -> None:
        if not self.off:
            self._queue.put(write)

    def _write_all(
        self, key: tuple[Path, str, str], about: dict[str, Any], measure: Measure, earlier: Tracker | None
    ) -> None:
        """The thread: opens the run, writes what the trial hands over until its end, closes the run."""
        self._attempt(lambda: self._open(about, measure, earlier))
        while not isinstance(item := self._queue.get(), int):
            if not self.off:
                self._attempt(item, self._run)
        if self._run is not None:
            self._attempt(self._run.finish, item)
        with _lock:
            if _active.get(key) is self:
                del _active[key]

    def _open(self, about: dict[str, Any], measure: Measure, earlier: Tracker | None) -> None:
        if earlier is not None:  # W&B refuses an id whose run is still open in this process
            earlier.abandon()
            earlier.wait(2 * self._timeout_seconds)
        self._run, why_offline = wandb_client.open_run(
            self._config,
            self._sweep,
            self._trial_id,
            self._folder,
            self._timeout_seconds,
            self._stop_asked,
            **about,
        )
        if why_offline:
            self._warn(f"is written offline, for W&B could not be opened online: {why_offline}{self._remedy()}")
        # Rows carry their own step: W&B's counter only goes up, and a trial that is run again starts from 1.
        self._run.define_metric("train/*", step_metric="step")
        self._run.define_metric("heldout/*", step_metric="step")
        self._run.define_metric(OBJECTIVE, step_metric="step", summary="max" if measure.higher_is_better else "min")

    def _attempt(self, action: Callable[..., object], *arguments: object) -> None:
        try:
            action(*arguments)
        except Exception as error:  # noqa: BLE001 - no error of W&B's may reach the trial
            self.off = True
            self._warn(f"is no longer tracked, and goes on: {type(error).__name__}: {error}{self._remedy()}")

    def _stop_asked(self) -> None:
        why = "its stop button, or an upload that failed for good"  # W&B does not say which
        self._warn(f"goes on although W&B asks for a stop ({why}): trials are stopped by the sweep{self._remedy()}")

    def _remedy(self) -> str:
        if self._run is None:
            rebuild = f"python -m sweeps.rebuild {shlex.quote(str(self._folder))} --wandb OUT"
            return f"; after the sweep, its run can be made anew: {rebuild}"
        return f"; to upload what is on disk: wandb sync --include-online {shlex.quote(str(self._run.sync_dir))}"

    def _warn(self, what: str) -> None:
        """Logs the trial's one warning; later ones are logged for debugging only."""
        with _lock:
            level, self._warned = logging.DEBUG if self._warned else logging.WARNING, True
        _log.log(level, "%s: trial %s %s", self.service, self._trial_id, " ".join(what.split()))


def close_service(timeout_seconds: float = 3 * TIMEOUT_SECONDS) -> None:
    """Closes every run of this process, then W&B's client; for the end of a lane. Never raises.

    Runs of trials that have not finished are closed as failed. What takes longer than `timeout_seconds` in all is left
    behind with a warning: the data is on disk.
    """
    deadline = time.monotonic() + timeout_seconds
    with _lock:
        trackers = list(_active.values())
    for tracker in trackers:
        tracker.abandon()
    for tracker in trackers:
        if not tracker.wait(deadline - time.monotonic()):
            tracker._warn(f"is still being uploaded when the worker stops{tracker._remedy()}")
    wandb_client.tear_down(max(2.0, deadline - time.monotonic()))
