import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.config.sections import WandbConfig
from trainables.config.trial_spec import TrialSpec
from trainables.tracking import wandb_client
from trainables.tracking.run_facts import area_row
from trainables.tracking.wandb_run import Tracker, close_service

Log = pytest.LogCaptureFixture
SPEC = TrialSpec(trial_id="t0", seed=7, params={"peak_lr": 1e-3, "batch_size": 4.0})


class FakeRun:
    """A run in memory, which raises in the method named `broken`."""

    def __init__(self, arguments: dict[str, Any], broken: str = "") -> None:
        self.arguments, self.broken = arguments, broken
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.by: dict[str, str] = {}
        self.exit_code: int | None = None
        self.sync_dir = "DIR"

    def define_metric(self, name: str, step_metric: str, summary: str | None = None) -> None:
        self.by[name] = step_metric

    def log(self, row: dict[str, Any]) -> None:
        if self.broken == "log":
            raise RuntimeError("broken\nlog")
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code
        if self.broken == "finish":
            raise TimeoutError("broken finish")


class Service:
    """Stands in for W&B: opens `FakeRun`s, or breaks as it is told."""

    def __init__(self) -> None:
        self.runs: list[FakeRun] = []
        self.broken = ""
        self.hold = threading.Event()
        self.stop_asked: Callable[[], None]

    def open_run(self, *given: Any, **arguments: Any) -> tuple[FakeRun, str]:
        if self.broken == "open":
            raise RuntimeError("broken open")
        if self.broken == "hang":
            self.hold.wait(20)
        section, *identity, timeout_seconds, self.stop_asked = given
        arguments |= {"mode": section.mode, "identity": identity, "timeout_seconds": timeout_seconds}
        self.runs.append(FakeRun(arguments, self.broken))
        return self.runs[-1], ""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake = Service()
    monkeypatch.setattr(wandb_client, "open_run", fake.open_run)
    yield fake
    fake.hold.set()
    close_service(5)


def record(step: int, loss: float = 2.0) -> Any:
    return SimpleNamespace(step=step, loss=loss, lr=1e-3 / step, grad_norm=0.5, clipped=step % 2 == 0, base_loss=None)


def track(folder: Path, sweep: str = "sweep", mode: Any = "offline", timeout_seconds: float = 1.0) -> Tracker:
    return Tracker(WandbConfig(mode=mode), sweep, str(folder), timeout_seconds)


def whole_trial(tracker: Tracker, spec: TrialSpec = SPEC, state: str = "complete") -> None:
    tracker.start(spec, {"model": "m", "batch_size": 8})
    tracker.steps([record(1), record(2, float("nan"))])
    tracker.speed({"step": 2, "tokens": 300, "seconds": 1.5})
    tracker.areas(2, {"a": {"nll": 1.0, "items": 3}}, None)
    tracker.finish(state, {"objective": 1.0})
    tracker.wait(10)


def warnings(caplog: Log) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_run_holds_the_trial(service: Service, tmp_path: Path, caplog: Log) -> None:
    whole_trial(track(tmp_path))
    (run,) = service.runs
    expected = {"model": "m", "peak_lr": 1e-3, "batch_size": 4.0, "seed": 7, "kind": "search", "replicate_of": None}
    assert run.arguments["config"] == expected
    assert (run.arguments["name"], run.arguments["identity"]) == ("sweep · 1.0e-3 · t0", ["sweep", "t0", tmp_path])
    assert (run.arguments["job_type"], run.arguments["notes"]) == ("search", None)
    assert run.by == {"train/*": "step", "heldout/*": "step", "objective": "step"}
    step = {"train/loss": 2.0, "train/lr": 1e-3, "train/grad_norm": 0.5, "train/clipped": 0}
    assert run.rows[0] == {"step": 1, **step}
    assert run.rows[1]["step"] == 2
    assert run.rows[1]["train/clipped"] == 1
    assert run.rows[1]["train/loss"] != run.rows[1]["train/loss"]
    assert run.rows[2] == {"step": 2, "train/tokens_per_second": 200.0}
    assert run.rows[3] == {"step": 2, "heldout/a/nll": 1.0}
    assert run.summary == {"heldout/a/items": 3, "verdict": {"objective": 1.0, "state": "complete"}}
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("state", "exit_code"), [("complete", 0), ("pruned", 0), ("diverged", 0), ("stopped", 0), ("failed", 1)]
)
def test_only_failed_trials_fail_their_run(service: Service, tmp_path: Path, state: str, exit_code: int) -> None:
    whole_trial(track(tmp_path), state=state)
    assert service.runs[0].exit_code == exit_code
    assert service.runs[0].summary["verdict"]["state"] == state


def test_trial_that_never_finished_is_closed_as_failed(service: Service, tmp_path: Path) -> None:
    tracker = track(tmp_path)
    tracker.start(SPEC, {})
    tracker.steps([record(1)])
    close_service(10)
    assert (service.runs[0].exit_code, len(service.runs[0].rows)) == (1, 1)


losses = st.floats(0, 20)
optional = st.none() | losses
summaries = st.dictionaries(
    st.sampled_from(["in_domain", "invoices", "contracts"]),
    st.fixed_dictionaries({"nll": losses, "exact_match": optional, "token_f1": optional, "items": st.integers(1, 99)}),
    min_size=1,
)


@given(summaries, st.none() | st.dictionaries(st.sampled_from(["in_domain", "invoices"]), losses))
def test_areas_log_what_is_known(scores: dict[str, dict[str, Any]], base: dict[str, float] | None) -> None:
    baseline = base if base is None else {area: {"nll": nll} for area, nll in base.items()}
    expected: dict[str, float] = {"step": 5}
    for area, values in scores.items():
        for name in ("nll", "exact_match", "token_f1"):
            if values[name] is not None:
                expected[f"heldout/{area}/{name}"] = values[name]
        if base is not None and area in base:
            expected[f"heldout/{area}/gain"] = base[area] - values["nll"]
    assert area_row(5, scores, baseline) == expected


@pytest.mark.parametrize("broken", ["open", "log", "finish"])
def test_an_error_is_one_warning_and_the_end_of_tracking(
    service: Service, tmp_path: Path, caplog: Log, broken: str
) -> None:
    service.broken = broken
    tracker = track(tmp_path)
    whole_trial(tracker)
    assert tracker.off
    (warning,) = warnings(caplog)
    assert warning.startswith("W&B: trial t0 is no longer tracked, and goes on: ")
    assert "broken" in warning
    assert "\n" not in warning
    assert ("wandb sync --include-online DIR" in warning) == (broken != "open")
    if broken == "log":
        assert service.runs[0].exit_code == 0  # closed, with the trial's own end


def test_wrong_arguments_do_not_reach_the_trial(service: Service, tmp_path: Path, caplog: Log) -> None:
    tracker = track(tmp_path)
    tracker.start(SPEC, {})
    tracker.steps([SimpleNamespace(step=1)])  # type: ignore[list-item]
    tracker.areas(1, {"a": {"nll": "high"}}, None)  # type: ignore[dict-item]
    tracker.finish("complete", None)  # type: ignore[arg-type]
    assert tracker.wait(10)
    assert len(warnings(caplog)) == 1
    assert service.runs[0].exit_code == 0


def test_a_hanging_start_blocks_nobody(service: Service, tmp_path: Path, caplog: Log) -> None:
    service.broken = "hang"
    tracker = track(tmp_path)
    started = time.monotonic()
    tracker.start(SPEC, {})
    for step in range(1, 1001):
        tracker.steps([record(step)])
    tracker.finish("complete", {})
    assert time.monotonic() - started < 8.0  # a call that waited for the start would wait for ever
    close_service(0.2)
    assert 0.2 <= time.monotonic() - started < 16.0
    assert ["still being uploaded" in warning for warning in warnings(caplog)] == [True]
    service.broken = ""
    service.hold.set()
    assert tracker.wait(10)
    assert len(service.runs[0].rows) == 1000


def test_a_stop_is_a_warning_and_the_trial_stays_tracked(service: Service, tmp_path: Path, caplog: Log) -> None:
    tracker = track(tmp_path)
    tracker.start(SPEC, {})
    tracker.steps([record(1)])
    while not service.runs or not service.runs[0].rows:
        time.sleep(0.01)
    service.stop_asked()
    tracker.steps([record(2)])
    tracker.finish("complete", {})
    assert tracker.wait(10)
    assert len(service.runs[0].rows) == 2
    (warning,) = warnings(caplog)
    assert warning.startswith("W&B: trial t0 goes on although W&B asks for a stop (its stop button, or an upload that ")


def test_disabled_opens_nothing(service: Service, tmp_path: Path) -> None:
    tracker = track(tmp_path, mode="disabled")
    whole_trial(tracker)
    assert tracker.wait(0)
    assert service.runs == []
    assert not (tmp_path / "wandb").exists()


def test_a_trial_that_is_run_again_closes_its_first_run(service: Service, tmp_path: Path) -> None:
    track(tmp_path).start(SPEC, {})
    whole_trial(track(tmp_path))
    first, second = service.runs
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert first.arguments["identity"] == second.arguments["identity"]
