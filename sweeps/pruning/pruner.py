"""Stops trials that are not worth their remaining steps: reads their curves while they run and asks `sweeps.pruning`.

It works beside Ray Tune, which sees a stopped trial end: Tune is told of held-out points alone, and a curve says more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sweeps.config.sweep_config import SweepConfig
from sweeps.lanes.lanes import Lanes
from sweeps.ledger.ledger import Ledger
from sweeps.pruning.decision import AT_ONCE, DOMINATED, Decision, decide, predicted_final
from sweeps.pruning.finding import dominated_finding
from sweeps.pruning.trial_curve import TrialCurve, read_curve
from trainables.config.hyperparameters import with_params
from trainables.config.trial_spec import TrialSpec
from trainables.data.epoch import Epoch, plan_epoch
from trainables.diagnostics import CurveMonitor, Finding
from trainables.evaluation import base_losses
from trainables.evaluation.base_losses import BaseLosses
from trainables.evaluation.objective import objectives_by_step
from trainables.optim.lr_schedule import LRSchedule, make_schedule
from trainables.storage.json_numbers import number_or_nan
from trainables.storage.layout import CURVE_FILE, TRIALS_FOLDER, trial_file
from trainables.storage.working_copy import WorkingCopy

Record = Mapping[str, Any]


@dataclass
class Reading:
    """A trial's curve, as far as it has been read.

    Attributes:
        spec: The trial.
        attempt: Which attempt the lines are of: a trial that is tried again writes its curve anew.
        epoch: Its steps.
        schedule: Its LR schedule.
        watch: Reads the lines for findings.
        lines: The curve's lines so far.
        findings: What was found in them.
        offset: Bytes of the file that were read.
    """

    spec: TrialSpec
    attempt: int
    epoch: Epoch
    schedule: LRSchedule
    watch: CurveMonitor
    lines: list[Record] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    offset: int = 0

    @classmethod
    def begun(
        cls, spec: TrialSpec, attempt: int, config: SweepConfig, samples: int, base_level: float | None
    ) -> Reading:
        """Of a trial whose file has not been looked at."""
        training, _ = with_params(config.training, config.model.lora, spec.params)
        epoch = plan_epoch(samples, training, config.resources.workers_per_lane)
        schedule = make_schedule(spec.params, training.schedule, epoch.steps)
        return cls(spec, attempt, epoch, schedule, CurveMonitor(schedule, training.max_grad_norm, base_level))

    def read_on(self, file: Path) -> bool:
        """Takes in the lines that are new and whole, and says whether there were any."""
        if not file.exists():
            return False
        with file.open("rb") as curve:
            curve.seek(self.offset)
            new = curve.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        for text in whole.splitlines():
            line = json.loads(text)
            item_nll = [number_or_nan(loss) for loss in line["item_nll"]]
            self.lines.append({"step": line["step"], "item_nll": item_nll})
            loss, grad_norm = number_or_nan(line["loss"]), number_or_nan(line["grad_norm"])
            base = line.get("item_base_nll")
            self.findings += self.watch.update(line["step"], loss, grad_norm, line["lr"], item_nll, base)
        return bool(whole)

    def curve(self, heldout: Mapping[int, float], final: float | None) -> TrialCurve:
        """As the decision reads it.

        Args:
            heldout: Objective of each checkpoint by step.
            final: Objective of a complete trial.
        """
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
    """Decides, at every report of a running trial, whether it goes on.

    Args:
        config: The sweep.
        samples: Samples of the training set.
        lanes: TrialOutcome to stop a trial.
        ledger: Where decisions go, with their numbers.
        base_objective: The base model's, nats a token.
        past: Trials of earlier starts that have ended.
        copy: Brings curves from the sweep's store; None for a sweep that lies in its folder.

    Attributes:
        predictions: What Optuna is told of a stopped trial, by trial id.
        findings: Why a trial was stopped, where its own curve does not say it, by trial id.
    """

    def __init__(
        self,
        config: SweepConfig,
        samples: int,
        lanes: Lanes,
        ledger: Ledger,
        base_objective: float,
        past: Sequence[Record],
        copy: WorkingCopy | None = None,
    ) -> None:
        self.config, self.samples, self.lanes, self.ledger = config, samples, lanes, ledger
        self.base_objective, self.past = base_objective, past
        self.copy, self._brought = copy or WorkingCopy(config.folder), dict[str, tuple[int, int]]()
        self.predictions: dict[str, float] = {}
        self.findings: dict[str, Finding] = {}
        self._readings: dict[str, Reading] = {}
        self._finished: dict[str, TrialCurve] = {}

    def look(self, specs: Mapping[str, TrialSpec], jobs: Mapping[str, Record], ended: Iterable[Record]) -> None:
        """Looks at every running trial of the search that has come further.

        Args:
            specs: All trials by id.
            jobs: The dispatcher's status of them.
            ended: Trials of this start that have ended.
        """
        running = {
            trial_id: reading
            for trial_id, job in jobs.items()
            if self._is_wanted(specs[trial_id], job) and self._bring(trial_id, job)
            for reading in [self._reading(specs[trial_id], job["attempt"])]
        }
        further = [trial_id for trial_id, reading in running.items() if reading.read_on(self._file(trial_id))]
        if not further:
            return
        finished = self._all_finished([*self.past, *ended])
        curves = {
            trial_id: reading.curve(_points(jobs[trial_id]), None)
            for trial_id, reading in running.items()
            if reading.lines
        }
        for trial_id in further:
            siblings = [curve for other_id, curve in curves.items() if other_id != trial_id]
            decision = decide(curves[trial_id], finished, siblings)
            if decision.stop and decision.rule not in AT_ONCE:  # these the training loop ends by itself, as diverged
                self._stop(trial_id, curves[trial_id], finished, decision)

    def _is_wanted(self, spec: TrialSpec, job: Record) -> bool:
        """A trial of the search that is running, has reported in this attempt, and has not been stopped."""
        return (
            job["state"] == "running"
            and bool(job.get("step"))
            and spec.kind == "search"
            and spec.trial_id not in self.predictions
        )

    def _bring(self, trial_id: str, job: Record) -> bool:
        """Fetches the curve of a trial that has reported since; always true."""
        reported = job["attempt"], job["step"]
        if self._brought.get(trial_id) != reported:
            self.copy.fetch(trial_file(trial_id, CURVE_FILE))
            self._brought[trial_id] = reported
        return True

    def _stop(self, trial_id: str, curve: TrialCurve, finished: list[TrialCurve], decision: Decision) -> None:
        predicted = self.predictions[trial_id] = predicted_final(curve, finished, self.base_objective)
        evidence = _plain(decision.evidence)
        if decision.rule == DOMINATED:
            per_step = self._readings[trial_id].epoch.samples_per_step
            self.findings[trial_id] = dominated_finding(curve, finished, evidence, per_step)
        self.ledger.append(
            "trial_stopped", trial_id=trial_id, rule=decision.rule, predicted=predicted, evidence=evidence
        )
        self.lanes.cancel(trial_id, "pruned")

    @cached_property
    def _base_level(self) -> float | None:
        """The base model's mean loss over the training set, which a lane has computed before the search begins."""
        losses = BaseLosses.read(self.config.folder / base_losses.FILE)
        return losses.level if losses else None

    def _file(self, trial_id: str) -> Path:
        return self.config.folder / TRIALS_FOLDER / trial_id / CURVE_FILE

    def _reading(self, spec: TrialSpec, attempt: int) -> Reading:
        reading = self._readings.get(spec.trial_id)
        file = self._file(spec.trial_id)
        shorter = reading is not None and file.exists() and file.stat().st_size < reading.offset
        if reading is None or reading.attempt != attempt or shorter:
            reading = self._readings[spec.trial_id] = Reading.begun(
                spec, attempt, self.config, self.samples, self._base_level
            )
        return reading

    def _all_finished(self, ended: Iterable[Record]) -> list[TrialCurve]:
        """Complete trials of the search, each read once."""
        for record in ended:
            wanted = record["state"] == "complete" and record["kind"] == "search"
            if wanted and record["trial_id"] not in self._finished:
                self._finished[record["trial_id"]] = self._finish(record)
        return list(self._finished.values())

    def _finish(self, record: Record) -> TrialCurve:
        fields = ("trial_id", "seed", "params", "drawn", "kind", "replicate_of")
        spec = TrialSpec(**{name: record[name] for name in fields})
        reading = Reading.begun(spec, 0, self.config, self.samples, self._base_level)
        reading.read_on(self.config.folder / TRIALS_FOLDER / spec.trial_id / CURVE_FILE)
        points = objectives_by_step(record, self.config.heldout.weights)
        return reading.curve(points, points[max(points)])


def _points(job: Record) -> dict[int, float]:
    return {point["step"]: point["objective"] for point in job["points"]}


def _plain(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if not isinstance(value, float) or math.isfinite(value) else str(value)
        for name, value in evidence.items()
    }
