"""All trackers of a trial as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.tracking.mlflow_run import MlflowTracker
from trainables.tracking.wandb_run import Scores, Tracker

if TYPE_CHECKING:
    from trainables.training.curve_recorder import StepRecord


class Trackers:
    """The trackers that a sweep's config asks for; each method is that of `trainables.tracking.wandb_run.Tracker`.

    Args:
        settings: The lane's settings.
    """

    def __init__(self, settings: LaneConfig) -> None:
        place = settings.sweep, settings.output_dir
        self._all: list[Tracker] = [Tracker(settings.wandb, *place)]
        if settings.mlflow.tracking_uri is not None:
            self._all.append(MlflowTracker(settings.mlflow, *place))

    def start(self, spec: TrialSpec, settings: Mapping[str, Any]) -> None:
        for tracker in self._all:
            tracker.start(spec, settings)

    def steps(self, records: Sequence[StepRecord]) -> None:
        for tracker in self._all:
            tracker.steps(records)

    def areas(self, step: int, summaries: Scores, baseline: Scores | None) -> None:
        for tracker in self._all:
            tracker.areas(step, summaries, baseline)

    def finish(self, state: str, verdict: Mapping[str, Any]) -> None:
        for tracker in self._all:
            tracker.finish(state, verdict)
