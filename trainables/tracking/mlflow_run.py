"""MLflow: one run a trial, by the W&B tracker's interface and promise: nothing that it does can harm the trial.

Only `mlflow-skinny` is needed, with SQLAlchemy and Alembic for a database. The import costs seconds, so it happens in
the tracker's thread.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from trainables.config.sections import MlflowConfig, WandbConfig
from trainables.evaluation.objective import Measure
from trainables.tracking.wandb_client import folder_id
from trainables.tracking.wandb_run import TIMEOUT_SECONDS, Tracker

IDENTITY = "llm_sweeps.trial"  # tag by which a trial that is run again finds its run
SWEEP = "llm_sweeps.sweep"
NOTES = "mlflow.note.content"  # MLflow's own tag of a run's description
BATCH = 500  # metrics in one request; MLflow takes 1,000
BATCH_SECONDS = 5.0  # ours: how old an unsent metric gets while more are logged
OPEN_TRIES = 5  # lanes that open a new database at once make its tables at once, and all but one fail
FAILED, FINISHED = "FAILED", "FINISHED"


class MlflowTracker(Tracker):
    """The MLflow run of one trial; see `trainables.tracking.wandb_run.Tracker`.

    Args:
        mlflow: Where runs go; without a `tracking_uri` nothing is tracked.
        sweep: The sweep's name, a tag of its runs.
        output_dir: The sweep's folder.
        timeout_seconds: Longest time for closing an earlier run of the same trial.
    """

    service = "MLflow"

    def __init__(
        self, mlflow: MlflowConfig, sweep: str, output_dir: str, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        super().__init__(WandbConfig(mode="disabled"), sweep, output_dir, timeout_seconds)
        self.off = mlflow.tracking_uri is None
        self._mlflow = mlflow

    def _open(self, about: dict[str, Any], measure: Measure, earlier: Tracker | None) -> None:
        if earlier is not None:
            earlier.abandon()
            earlier.wait(2 * self._timeout_seconds)
        place = self._folder / "wandb"
        place.mkdir(parents=True, exist_ok=True)
        # As W&B's run ids: another folder of the same name is another sweep, and a moved one is the same.
        identity = hashlib.sha256("\n".join((self._sweep, folder_id(place), self._trial_id)).encode()).hexdigest()[:24]
        self._run: Any = open_run(self._mlflow, self._sweep, about, identity)

    def _remedy(self) -> str:
        return "; the trial's own files hold all that MLflow would have shown"


class MlflowRun:
    """A run as the tracker writes to it: `log`, `summary.update` and `finish`, as a run of W&B has them.

    Args:
        client: An `mlflow.MlflowClient`.
        run_id: The run's id.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self.run_id, self.summary = run_id, self
        self._client, self._metrics = client, list[Any]()
        self._sent = time.monotonic()

    def log(self, row: Mapping[str, float]) -> None:
        """Adds a row of metrics, which holds its own `step`; they are sent in batches."""
        from mlflow.entities import Metric

        now, step = int(1000 * time.time()), int(row["step"])
        self._metrics += [Metric(name, float(row[name]), now, step) for name in row if name != "step"]
        if len(self._metrics) >= BATCH or time.monotonic() - self._sent >= BATCH_SECONDS:
            self._send()

    def update(self, values: Mapping[str, Any]) -> None:
        """Writes values as tags: texts as they are, others as JSON."""
        from mlflow.entities import RunTag

        texts = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in values.items())
        self._client.log_batch(self.run_id, tags=[RunTag(name, text) for name, text in texts])

    def finish(self, exit_code: int) -> None:
        """Sends what is left and ends the run, as failed unless the code is 0."""
        self._send()
        self._client.set_terminated(self.run_id, FAILED if exit_code else FINISHED)

    def _send(self) -> None:
        while self._metrics:
            self._client.log_batch(self.run_id, metrics=self._metrics[:BATCH])
            del self._metrics[:BATCH]
        self._sent = time.monotonic()


def open_run(section: MlflowConfig, sweep: str, about: Mapping[str, Any], identity: str) -> MlflowRun:
    """Opens a trial's run, or continues the one with the same identity.

    Args:
        section: The sweep's MLflow section, with a `tracking_uri`.
        sweep: The sweep's name.
        about: The run's name, notes and config, as W&B's run gets them.
        identity: What the run is of.

    Raises:
        Exception: Any error of MLflow.
    """
    from mlflow.entities import Param

    client = _client(str(section.tracking_uri))
    experiment = _experiment(client, section.experiment)
    found = client.search_runs([experiment], f"tags.`{IDENTITY}` = '{identity}'", max_results=1)
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return MlflowRun(client, found[0].info.run_id)
    tags = {IDENTITY: identity, SWEEP: sweep}
    if about["notes"]:
        tags[NOTES] = about["notes"]
    run_id = client.create_run(experiment, tags=tags, run_name=about["name"]).info.run_id
    known = {name: str(value) for name, value in about["config"].items() if value is not None}
    client.log_batch(run_id, params=[Param(name, text) for name, text in known.items()])
    return MlflowRun(client, run_id)


def _client(uri: str) -> Any:
    # Before the import, which reads them: no report of its use, and a server that is gone is given up in time.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(int(TIMEOUT_SECONDS)))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    for number in range(OPEN_TRIES):
        try:
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
            return client
        except Exception:
            if number == OPEN_TRIES - 1:
                raise
            time.sleep(0.2 * 2**number)
    raise AssertionError("unreachable")


def _experiment(client: Any, name: str) -> str:
    for _ in range(2):
        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(name))
        except Exception as error:  # noqa: BLE001 - of several kinds where another lane has made it meanwhile
            lost = error
    raise lost
