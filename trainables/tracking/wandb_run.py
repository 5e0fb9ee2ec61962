"""W&B: one run a trial, and nothing that W&B does can stop, slow or fail the trial.

A tracker writes from a thread of its own. The trial's calls only hand over plain values, so a server that hangs, a
full disk or a service process that died cost the trial nothing: the first error is one warning in the log, and from
then on that trial is not tracked. The trial's own files hold everything that W&B would have shown.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from trainables.config.sections import WandbConfig
from trainables.config.trial_spec import TrialSpec
from trainables.tracking import wandb_service

if TYPE_CHECKING:
    from wandb import Run

    from trainables.training.curve_recorder import StepRecord

TIMEOUT_SECONDS = 20.0

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_lock = threading.Lock()
_active: dict[tuple[str, str], Tracker] = {}


def _guarded(method: Callable[Concatenate[Tracker, _P], None]) -> Callable[Concatenate[Tracker, _P], None]:
    """A public method that does nothing once tracking has ended, and whose exceptions end it."""

    @functools.wraps(method)
    def call(self: Tracker, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if not self.off:
            self._attempt(lambda: method(self, *args, **kwargs))

    return call


class Tracker:
    """The W&B run of one trial. No method raises, and none but `wait` waits for W&B.

    The run's id is a hash of the sweep's name, the output folder's own id and the trial's id: a trial that is run again
    continues its run, and the same name in another folder starts another. Call `start` first and `finish` last.

    Args:
        wandb: Where runs go. Mode "auto" follows `WANDB_MODE` and `wandb offline`; else it is online if W&B knows an
            API key (environment, netrc, settings), and offline if not.
        sweep: The sweep's name, which groups its runs.
        output_dir: The sweep's folder; W&B writes to `wandb/` in it.
        timeout_seconds: Longest time for opening a run, and for uploading the rest of one at its end.

    Attributes:
        off: Whether nothing is tracked: mode "disabled", or after an error.
    """

    def __init__(
        self, wandb: WandbConfig, sweep: str, output_dir: str, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._wandb, self._sweep, self._trial_id = wandb, sweep, ""
        self._output_dir = Path(output_dir).absolute()
        self._folder = self._output_dir / "wandb"
        self._timeout_seconds = timeout_seconds
        self._queue: queue.SimpleQueue[Callable[[Run], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None
        self._exit_code = 1
        self._warned = False
        self.off = wandb.mode == "disabled"

    @_guarded
    def start(self, spec: TrialSpec, settings: Mapping[str, Any]) -> None:
        """Opens the trial's run, in the background.

        Args:
            spec: The trial; its hyper-parameters, seed and kind go into the run's config.
            settings: More for the run's config, such as the model and the training section. It is stored as it is, so
                it must hold no secret. The trial's own values win over equal names in it.
        """
        config = {**settings, **spec.params, "seed": spec.seed, "kind": spec.kind, "replicate_of": spec.replicate_of}
        self._trial_id = spec.trial_id
        key = (str(self._output_dir), spec.trial_id)
        with _lock:
            earlier, _active[key] = _active.get(key), self
        self._thread = threading.Thread(target=self._write_all, args=(key, config, earlier), daemon=True)
        self._thread.start()

    @_guarded
    def steps(self, records: Sequence[StepRecord]) -> None:
        """Logs `train/loss`, `train/lr`, `train/grad_norm` and `train/clipped` (0 or 1) of each step, by step.

        And `train/loss_minus_base`, the loss less the base model's on the same tokens, where that is known.
        """
        rows = [
            {"step": r.step, "train/loss": r.loss, "train/lr": r.lr, "train/grad_norm": r.grad_norm}
            | {"train/clipped": int(r.clipped)}
            | ({} if r.base_loss is None else {"train/loss_minus_base": r.loss - r.base_loss})
            for r in records
        ]

        def write(run: Run) -> None:
            for row in rows:
                run.log(row)

        self._queue.put(write)

    @_guarded
    def areas(
        self,
        step: int,
        summaries: Mapping[str, Mapping[str, float | None]],
        baseline: Mapping[str, Mapping[str, float | None]] | None,
    ) -> None:
        """Logs a checkpoint's held-out scores as `heldout/AREA/NAME`, by step.

        Args:
            step: Optimizer steps done at the checkpoint.
            summaries: Scores by area: `nll` in nats a token, `exact_match`, …; None where no answer was generated. The
                number of `items` goes into the run's summary only.
            baseline: The base model's scores by area. Where given, `heldout/AREA/gain` is the base model's `nll` minus
                the checkpoint's (nats a token, above 0 is better than the base model).
        """
        row: dict[str, float] = {"step": step}
        items: dict[str, int] = {}
        for area, scores in summaries.items():
            given = {name: float(score) for name, score in scores.items() if score is not None}
            if "items" in given:
                items[f"heldout/{area}/items"] = int(given.pop("items"))
            row |= {f"heldout/{area}/{name}": score for name, score in given.items()}
            base = (baseline or {}).get(area, {}).get("nll")
            if base is not None and "nll" in given:
                row[f"heldout/{area}/gain"] = base - given["nll"]

        def write(run: Run) -> None:
            run.log(row)
            run.summary.update(items)

        self._queue.put(write)

    def finish(self, state: str, verdict: Mapping[str, Any]) -> None:
        """Writes the verdict into the run's summary and closes the run, in the background.

        Args:
            state: How the trial ended. Only "failed" gives the run exit code 1: diverged and pruned are results.
            verdict: What is known of the trial, as JSON values; stored as `verdict` with `state` in it.
        """
        self._exit_code = int(state == "failed")
        if not self.off:
            self._attempt(lambda: self._put_verdict({**verdict, "state": state}))
        self.abandon()

    def _put_verdict(self, verdict: dict[str, Any]) -> None:
        self._queue.put(lambda run: run.summary.update({"verdict": verdict}))

    def abandon(self) -> None:
        """Closes the run, in the background, as it is: as failed if the trial has not finished."""
        self._queue.put(None)

    def wait(self, timeout_seconds: float) -> bool:
        """Waits until the run is closed, at most this many seconds; says whether it is."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout_seconds))
        return self._thread is None or not self._thread.is_alive()

    def _write_all(self, key: tuple[str, str], config: dict[str, Any], earlier: Tracker | None) -> None:
        """The thread: opens the run, writes what is handed over until the end is, and closes the run."""
        self._attempt(lambda: self._open(config, earlier))
        while (write := self._queue.get()) is not None:
            if not self.off:
                self._attempt(functools.partial(self._write, write))
        close = functools.partial(wandb_service.close_run, exit_code=self._exit_code, lost_upload=self._lost_upload)
        self._attempt(functools.partial(self._write, close))
        with _lock:
            if _active.get(key) is self:
                del _active[key]

    def _open(self, config: dict[str, Any], earlier: Tracker | None) -> None:
        if earlier is not None:  # W&B refuses an id whose run is still open in this process
            earlier.abandon()
            earlier.wait(2 * self._timeout_seconds)
        self._folder.mkdir(parents=True, exist_ok=True)  # else W&B would write to the system's temporary folder
        wandb_service.check_room(self._folder)
        identity = "\n".join((self._sweep, wandb_service.folder_id(self._folder), self._trial_id))
        self._run = wandb_service.open_run(
            self._wandb.mode,
            self._timeout_seconds,
            self._lost_upload,
            self._stop_asked,
            project=self._wandb.project,
            entity=self._wandb.entity,
            tags=self._wandb.tags,
            group=self._sweep,
            name=self._trial_id,
            id=hashlib.sha256(identity.encode()).hexdigest()[:24],
            dir=str(self._output_dir),
            config=config,
            reinit="create_new",
            resume="allow",
        )
        # Rows carry their own step: W&B's counter only goes up, and a trial that is run again starts from 1.
        self._run.define_metric("train/*", step_metric="step")
        self._run.define_metric("heldout/*", step_metric="step")

    def _write(self, write: Callable[[Run], None]) -> None:
        if self._run is not None:
            write(self._run)
            wandb_service.check_room(self._folder)

    def _attempt(self, action: Callable[[], object]) -> None:
        """Does `action`; an exception of it becomes the trial's one warning and ends the tracking."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever W&B raises must not reach the trial
            self.off = True
            self._warn(f"is no longer tracked, and goes on: {type(error).__name__}: {error}{self._remedy()}")

    def _lost_upload(self) -> None:
        self._warn(f"may lack data in W&B, an upload failed for good{self._remedy()}")

    def _stop_asked(self) -> None:
        self._warn("goes on although W&B asks for a stop: trials are stopped by the sweep")

    def _remedy(self) -> str:
        return f"; to upload what is on disk: wandb sync --include-online {self._run.sync_dir}" if self._run else ""

    def _warn(self, what: str) -> None:
        """Logs the trial's one warning; what comes after it is logged for debugging only."""
        with _lock:
            level, self._warned = logging.DEBUG if self._warned else logging.WARNING, True
        _log.log(level, "W&B: trial %s %s", self._trial_id, " ".join(what.split()))


def close_service(timeout_seconds: float = 3 * TIMEOUT_SECONDS) -> None:
    """Closes every run of this process and ends W&B's service process; for the end of a lane. Never raises.

    Runs of trials that have not finished are closed as failed. What takes longer than `timeout_seconds` in all is left
    behind with a warning: the data is on disk, and the service ends with this process.
    """
    deadline = time.monotonic() + timeout_seconds
    with _lock:
        trackers = list(_active.values())
    for tracker in trackers:
        tracker.abandon()
    for tracker in trackers:
        if not tracker.wait(deadline - time.monotonic()):
            tracker._warn(f"is still being uploaded at the lane's end{tracker._remedy()}")
    wandb_service.end_service(max(2.0, deadline - time.monotonic()))
