"""Stops trials that are not worth their remaining steps: reads their curves while they run, then decides.

The pruner works in parallel to Ray Tune. Tune only sees held-out points, and a curve says more; it learns of a stop as
the trial's end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.config.sweep_config import SweepConfig
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.trial_record import StoppedTrials, TrialRecord, spec_of
from sweeps.pruning.decision import AT_ONCE, DOMINATED, Decision, decide, predicted_final
from sweeps.pruning.finding import dominated_finding
from sweeps.pruning.trial_curve import TrialCurve, read_curve
from trainables.config.hyperparameters import with_params
from trainables.config.trial_spec import TrialSpec
from trainables.data.epoch import Epoch, plan_epoch
from trainables.diagnostics import CurveMonitor, Finding
from trainables.evaluation import base_losses
from trainables.evaluation.base_losses import BaseLosses
from trainables.evaluation.objective import objective, objectives_by_step
from trainables.lane.messages import JobStatus
from trainables.optim.lr_schedule import LRSchedule, make_schedule
from trainables.storage.json_numbers import number_or_nan
from trainables.storage.layout import BASELINE_FILE, CURVE_FILE, trial_file

if TYPE_CHECKING:  # lanes import torch, by way of Ray Train
    from sweeps.lanes.lanes import Lanes


@dataclass
class Reading:
    """A trial's curve, as far as it has been read.

    Attributes:
        spec: The trial.
        attempt: The attempt that wrote the lines.
        epoch: The trial's steps.
        schedule: The trial's LR schedule.
        monitor: Diagnoses the lines.
        lines: The curve's lines so far.
        findings: The monitor's findings so far.
        offset: Bytes of the file that were read.
    """

    spec: TrialSpec
    attempt: int
    epoch: Epoch
    schedule: LRSchedule
    monitor: CurveMonitor
    lines: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    offset: int = 0

    def read_on(self, file: Path) -> bool:
        """Reads the lines that are new and complete, and returns whether there were any."""
        if not file.exists():
            return False
        with file.open("rb") as curve:
            curve.seek(self.offset)
            new = curve.read()
        whole = new[: new.rfind(b"\n") + 1]  # the lane may be in the middle of a line
        self.offset += len(whole)
        for text in whole.splitlines():
            line = json.loads(text)
            item_nll = [number_or_nan(loss) for loss in line["item_nll"]]
            self.lines.append({"step": line["step"], "item_nll": item_nll})
            loss, grad_norm = number_or_nan(line["loss"]), number_or_nan(line["grad_norm"])
            base = line.get("item_base_nll")
            self.findings += self.monitor.update(line["step"], loss, grad_norm, line["lr"], item_nll, base)
        return bool(whole)

    def curve(self, heldout: Mapping[int, float], final: float | None) -> TrialCurve:
        """Converts to what `decide` takes, given each checkpoint's objective by step."""
        return read_curve(
            self.spec.trial_id,
            self.spec.seed,
            self.schedule,
            self.epoch.samples,
            self.epoch.samples_per_step,
            self.lines,
            heldout=heldout,
            objective=final,
            findings=self.findings,
        )


class Pruner:
    """Decides, at every report of a running search trial, whether it goes on.

    Attributes:
        samples: Samples of the training set.
        stopped: Receives the predictions and findings of stopped trials.
    """

    def __init__(
        self,
        config: SweepConfig,
        samples: int,
        lanes: Lanes,
        ledger: Ledger,
        store: SweepStore,
        stopped: StoppedTrials,
    ) -> None:
        self.config, self.samples = config, samples
        self.lanes, self.ledger = lanes, ledger
        self.store, self.stopped = store, stopped
        self._fetched: dict[str, tuple[int, int]] = {}
        self._readings: dict[str, Reading] = {}
        self._finished: dict[str, TrialCurve] = {}

    def update(
        self, specs: Mapping[str, TrialSpec], jobs: Mapping[str, JobStatus], ended: Iterable[TrialRecord]
    ) -> None:
        """Reads the curves that have grown, and stops the trials not worth their remaining steps.

        Args:
            specs: All trials by id.
            jobs: The dispatcher's status of them.
            ended: All trials of the sweep that have ended.
        """
        readings: dict[str, Reading] = {}
        grown: list[str] = []
        for trial_id, job in jobs.items():
            if self._is_prunable(specs[trial_id], job):
                self._fetch_curve(trial_id, job)
                readings[trial_id] = self._reading(specs[trial_id], job["attempt"])
                if readings[trial_id].read_on(self._file(trial_id)):
                    grown.append(trial_id)
        if not grown:  # twice a second, mostly
            return
        finished = self._all_finished(ended)
        curves = {
            trial_id: reading.curve(_points(jobs[trial_id]), None)
            for trial_id, reading in readings.items()
            if reading.lines
        }
        for trial_id in grown:
            siblings = [curve for other_id, curve in curves.items() if other_id != trial_id]
            decision = decide(curves[trial_id], finished, siblings)
            if decision.stop and decision.rule not in AT_ONCE:  # the training loop ends these itself, as diverged
                self._stop(jobs[trial_id]["job_id"], curves[trial_id], finished, decision)

    def _is_prunable(self, spec: TrialSpec, job: JobStatus) -> bool:
        """Whether this is a search trial that runs, has reported in this attempt, and has not been stopped."""
        return (
            job["state"] == "running"
            and bool(job.get("step"))
            and spec.kind == "search"
            and spec.trial_id not in self.stopped.predictions
        )

    def _fetch_curve(self, trial_id: str, job: JobStatus) -> None:
        reported = job["attempt"], job["step"]
        if self._fetched.get(trial_id) != reported:  # a request to the store for each report, not for each update
            self.store.fetch_curve(trial_id)
            self._fetched[trial_id] = reported

    def _stop(self, job_id: str, curve: TrialCurve, finished: list[TrialCurve], decision: Decision) -> None:
        trial_id = curve.trial_id
        # The prediction comes before the cancellation: the recorder and the search look for it when the trial ends.
        predicted = self.stopped.predictions[trial_id] = predicted_final(curve, finished, self._base_objective)
        evidence = _plain(decision.evidence)
        if decision.rule == DOMINATED:
            per_step = self._readings[trial_id].epoch.samples_per_step
            self.stopped.findings[trial_id] = dominated_finding(curve, finished, evidence, per_step)
        self.ledger.append(
            "trial_stopped", trial_id=trial_id, rule=decision.rule, predicted=predicted, evidence=evidence
        )
        self.lanes.cancel(job_id, "pruned")

    # The base model is scored before the first trial starts and after this object is made, so both are read on use.
    @cached_property
    def _base_objective(self) -> float:
        baseline = json.loads((self.config.folder / BASELINE_FILE).read_text(encoding="utf-8"))
        return objective(baseline["areas"], self.config.heldout.weights)

    @cached_property
    def _base_level(self) -> float | None:
        """The base model's mean loss over the training set, nats a token."""
        losses = BaseLosses.read(self.config.folder / base_losses.FILE)
        return losses.level if losses else None

    def _file(self, trial_id: str) -> Path:
        return self.config.folder / trial_file(trial_id, CURVE_FILE)

    def _reading(self, spec: TrialSpec, attempt: int) -> Reading:
        reading = self._readings.get(spec.trial_id)
        file = self._file(spec.trial_id)
        # Another attempt rewrites the curve. Its first lines can be here before the dispatcher names the attempt.
        shorter = reading is not None and file.exists() and file.stat().st_size < reading.offset
        if reading is None or reading.attempt != attempt or shorter:
            reading = self._readings[spec.trial_id] = self._begin(spec, attempt)
        return reading

    def _begin(self, spec: TrialSpec, attempt: int) -> Reading:
        config = self.config
        training, _ = with_params(config.training, config.model.lora, spec.params)
        epoch = plan_epoch(self.samples, training, config.resources.workers_per_lane)
        schedule = make_schedule(spec.params, training.schedule, epoch.steps)
        monitor = CurveMonitor(schedule, training.max_grad_norm, self._base_level)
        return Reading(spec, attempt, epoch, schedule, monitor)

    def _all_finished(self, ended: Iterable[TrialRecord]) -> list[TrialCurve]:
        """The complete trials of the search, each read once."""
        for record in ended:
            wanted = record["state"] == "complete" and record["kind"] == "search"
            if wanted and record["trial_id"] not in self._finished:
                self._finished[record["trial_id"]] = self._finished_curve(record)
        return list(self._finished.values())

    def _finished_curve(self, record: TrialRecord) -> TrialCurve:
        reading = self._begin(spec_of(record), 0)
        reading.read_on(self._file(record["trial_id"]))
        points = objectives_by_step(record, self.config.heldout.weights)
        return reading.curve(points, points[max(points)])


def _points(job: JobStatus) -> dict[int, float]:
    return {point["step"]: point["objective"] for point in job["points"]}


def _plain(evidence: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no NaN and no infinity.
    return {
        name: value if not isinstance(value, float) or math.isfinite(value) else str(value)
        for name, value in evidence.items()
    }
