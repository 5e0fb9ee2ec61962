"""All trackers of a trial as one."""

from __future__ import annotations

from typing import Any

from trainables.config.trial_spec import LaneConfig
from trainables.tracking.mlflow_run import MlflowTracker
from trainables.tracking.wandb_run import Tracker


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

    def start(self, *given: Any, **more: Any) -> None:
        self._each("start", *given, **more)

    def steps(self, *given: Any, **more: Any) -> None:
        self._each("steps", *given, **more)

    def speed(self, *given: Any, **more: Any) -> None:
        self._each("speed", *given, **more)

    def areas(self, *given: Any, **more: Any) -> None:
        self._each("areas", *given, **more)

    def finish(self, *given: Any, **more: Any) -> None:
        self._each("finish", *given, **more)

    def _each(self, method: str, *given: Any, **more: Any) -> None:
        for tracker in self._all:
            getattr(tracker, method)(*given, **more)
