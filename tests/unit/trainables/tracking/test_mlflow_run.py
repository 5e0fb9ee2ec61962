"""MLflow's own client reads back from a database what the tracker wrote; a server that is gone costs only a warning."""

import json
import logging
import math
import socket
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from trainables.config.sections import MlflowConfig
from trainables.config.trial_spec import TrialSpec
from trainables.tracking.mlflow_run import MlflowTracker, _client
from trainables.tracking.trackers import Trackers
from trainables.training.curve_recorder import StepRecord

SPEC = TrialSpec(trial_id="t0001", seed=3, params={"peak_lr": 1e-3})
AREAS = {"tables": {"nll": 1.5, "exact_match": None, "items": 8}}
BASELINE = {"tables": {"nll": 2.0}}


def record(step, loss=1.0):
    known = dict.fromkeys(StepRecord.__dataclass_fields__)
    return StepRecord(**{**known, "step": step, "loss": loss, "lr": 1e-4, "grad_norm": 0.5, "clipped": step == 2})


def trained(section, folder, losses=(1.0, 0.5), state="complete", first=1):
    tracker = MlflowTracker(section, "demo", str(folder), timeout_seconds=5.0)
    tracker.start(SPEC, {"model": "random:tiny-llama", "method": "lora"})
    tracker.steps([record(step, loss) for step, loss in enumerate(losses, start=first)])
    tracker.areas(first + len(losses) - 1, AREAS, BASELINE)
    tracker.finish(state, {"objective": 1.5, "findings": 0})
    assert tracker.wait(60)
    return tracker


def history(client, run, name):
    return [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]


def test_the_store_holds_what_the_trial_reported_and_a_trial_that_is_run_again_goes_on(tmp_path, caplog):
    section = MlflowConfig(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="mine")
    assert not trained(section, tmp_path / "demo").off, caplog.text
    client = _client(section.tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert (run.info.run_name, run.info.status) == ("demo · 1.0e-3 · t0001", "FINISHED")
    params = {"peak_lr": "0.001", "seed": "3", "kind": "search", "model": "random:tiny-llama", "method": "lora"}
    assert run.data.params == params
    assert history(client, run, "train/loss") == [(1, 1.0), (2, 0.5)]
    assert history(client, run, "train/clipped") == [(1, 0.0), (2, 1.0)]
    assert history(client, run, "heldout/tables/nll") == [(2, 1.5)]
    assert history(client, run, "heldout/tables/gain") == [(2, 0.5)]
    assert run.data.tags["llm_sweeps.sweep"] == "demo"
    assert run.data.tags["heldout/tables/items"] == "8"
    assert json.loads(run.data.tags["verdict"]) == {"objective": 1.5, "findings": 0, "state": "complete"}

    (tmp_path / "demo").rename(tmp_path / "moved")
    trained(section, tmp_path / "moved", (0.3,), "failed", first=3)
    (run,) = client.search_runs([run.info.experiment_id])
    assert run.info.status == "FAILED"
    assert [step for step, _ in history(client, run, "train/loss")] == [1, 2, 3]
    trained(section, tmp_path / "another", (1.0, math.nan), "diverged")
    (other,) = client.search_runs([run.info.experiment_id], "attributes.status = 'FINISHED'")
    assert other.info.run_id != run.info.run_id
    assert math.isnan(history(client, other, "train/loss")[1][1])


def test_a_server_that_is_gone_is_one_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("trainables.tracking.mlflow_run.time.sleep", lambda _seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with caplog.at_level(logging.WARNING, "trainables.tracking.wandb_run"):
        tracker = trained(MlflowConfig(tracking_uri=f"http://127.0.0.1:{port}"), tmp_path / "demo")
    assert tracker.off
    (line,) = [one.getMessage() for one in caplog.records if one.name.startswith("trainables")]
    assert line.startswith("MLflow: trial t0001 is no longer tracked, and goes on: ")


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("off-is-false", None),
        ("https://mlflow.example.org", "https://mlflow.example.org"),
        ({"tracking_uri": "sqlite:////data/mlflow.db"}, "sqlite:////data/mlflow.db"),
        ({"tracking_uri": "postgresql+psycopg://db/mlflow"}, "postgresql+psycopg://db/mlflow"),
    ],
)
def test_places_that_are_taken(given, uri):
    assert MlflowConfig.model_validate(False if given == "off-is-false" else given).tracking_uri == uri


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        ("./mlruns", "must begin with one of http://"),
        ("file:///data/mlruns", "must begin with one of http://"),
        ("sqlite:///mlflow.db", "must be an absolute path with four slashes"),
    ],
)
def test_places_that_are_refused(uri, rule):
    with pytest.raises(ValidationError, match=rule):
        MlflowConfig(tracking_uri=uri)


@pytest.mark.parametrize(("uri", "trackers"), [(None, ["wandb"]), ("https://mlflow.example.org", ["wandb", "mlflow"])])
def test_every_tracker_that_the_config_asks_for_gets_everything(monkeypatch, uri, trackers):
    calls = []

    class Recorded:
        def __init__(self, section, *_place):
            self.section = section

        def __getattr__(self, name):
            return lambda *given: calls.append((self.section, name, *given))

    monkeypatch.setattr("trainables.tracking.trackers.Tracker", Recorded)
    monkeypatch.setattr(
        "trainables.tracking.trackers.MlflowTracker", lambda _section, *place: Recorded("mlflow", *place)
    )
    both = Trackers(SimpleNamespace(wandb="wandb", mlflow=MlflowConfig(tracking_uri=uri), sweep="s", output_dir="d"))
    acts = {"start": (SPEC, {}), "steps": ([],), "areas": (1, AREAS, None), "finish": ("complete", {})}
    for name, given in acts.items():
        getattr(both, name)(*given)
    assert calls == [(one, name, *given) for name, given in acts.items() for one in trackers]
