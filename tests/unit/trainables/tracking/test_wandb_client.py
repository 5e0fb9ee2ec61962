import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainables.config.sections import WandbConfig
from trainables.tracking import wandb_client

Calls = list[dict[str, Any]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The arguments of each `wandb.init` of a W&B in memory, whose settings are the last argument."""
    calls: Calls = []

    class Settings(SimpleNamespace):
        model_fields = ("stop_fn", "silent", "console", "finish_timeout", "finish_timeout_raises", "mode")

    fake = SimpleNamespace(Settings=Settings, setup=lambda settings: None, init=lambda **given: calls.append(given))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return calls


def run_id(opened: Calls, folder: Path, sweep: str = "sweep", trial: str = "t0") -> str:
    wandb_client.open_run(WandbConfig(mode="offline"), sweep, trial, folder, 1.5, lambda: None, name=trial)
    return opened[-1]["id"]


def test_run_id_belongs_to_sweep_folder_and_trial(opened: Calls, tmp_path: Path) -> None:
    first = run_id(opened, tmp_path / "one")
    assert run_id(opened, tmp_path / "one") == first
    others = {run_id(opened, tmp_path / "one", **changed) for changed in ({"sweep": "other"}, {"trial": "t1"})}
    assert len({first, run_id(opened, tmp_path / "two"), *others}) == 4
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert run_id(opened, tmp_path / "moved") == first


def test_a_run_is_opened_aside_with_bounds_and_only_with_known_settings(opened: Calls, tmp_path: Path) -> None:
    run_id(opened, tmp_path)
    (call,) = opened
    expected = {"mode": "offline", "group": "sweep", "name": "t0", "dir": str(tmp_path), "reinit": "create_new"}
    assert expected.items() <= call.items()
    assert call["resume"] == "allow"
    settings = vars(call["settings"])
    assert (settings["finish_timeout"], settings["finish_timeout_raises"]) == (1.5, True)
    assert "x_disable_stats" not in settings


@pytest.mark.parametrize(
    ("unreachable", "refused", "modes", "why"),
    [
        ("", False, ["online"], ""),
        ("Connection refused", False, ["offline"], "Connection refused"),
        ("", True, ["online", "offline"], "ConnectionError: no"),
    ],
)
def test_a_run_that_cant_be_opened_online_is_opened_offline(
    opened: Calls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unreachable: str,
    refused: bool,
    modes: Any,
    why: str,
) -> None:
    monkeypatch.setattr(wandb_client, "unreachable", lambda timeout_seconds: unreachable)
    init = sys.modules["wandb"].init

    def refusing(**given: Any) -> str:
        init(**given)
        if refused and given["mode"] == "online":
            raise ConnectionError("no")
        return str(given["mode"])

    monkeypatch.setattr(sys.modules["wandb"], "init", refusing)
    found = wandb_client.open_run(WandbConfig(mode="online"), "sweep", "t0", tmp_path, 1.5, lambda: None, name="t0")
    assert found == (modes[-1], why)
    assert [call["mode"] for call in opened] == modes
    # W&B holds the id of a run that it could not open.
    assert len({call["id"] for call in opened}) == len(modes)


@pytest.mark.parametrize(
    ("answer", "reached"),
    [
        (lambda: (_ for _ in ()).throw(urllib.error.HTTPError("u", 401, "no", Message(), None)), ""),
        (lambda: (_ for _ in ()).throw(urllib.error.URLError(ssl.SSLError(1, "unknown authority"))), ""),
        (lambda: (_ for _ in ()).throw(urllib.error.URLError(ConnectionRefusedError(111, "refused"))), "refused"),
        (lambda: (_ for _ in ()).throw(TimeoutError("timed out")), "timed out"),
    ],
)
def test_a_server_that_answers_anything_is_reachable(
    monkeypatch: pytest.MonkeyPatch, answer: Any, reached: str
) -> None:
    settings = SimpleNamespace(settings=SimpleNamespace(base_url="http://127.0.0.1:9"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(setup=lambda: settings))
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: answer())
    found = wandb_client.unreachable(1.0)
    assert reached in found
    assert bool(found) is bool(reached)


def test_folder_id_is_one_for_all_who_ask_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        (folder_id,) = set(pool.map(lambda _: wandb_client.folder_id(tmp_path), range(64)))
    assert len(folder_id) == 32
    (tmp_path / "folder-id").write_text("abc")
    with pytest.raises(ValueError, match="must hold 32 characters, got 3; delete it"):
        wandb_client.folder_id(tmp_path, timeout_seconds=0.05)


def test_a_key_that_wandb_refuses_and_the_ids_of_other_runs_cost_no_row(tmp_path: Path) -> None:
    """In a process of its own: W&B reads the environment once."""
    script = f"""
from pathlib import Path
from trainables.config.sections import WandbConfig
from trainables.tracking.wandb_client import open_run
runs = [open_run(WandbConfig(), "s", name, Path({str(tmp_path)!r}), 20.0, lambda: None) for name in ("t1", "t2")]
for run, why in runs:
    run.log({{"loss": 1.0}})
    run.finish()
print(len({{run.id for run, _ in runs}}), {{run.project for run, _ in runs}}, runs[0][1], sep="|")
"""
    names = {"WANDB_API_KEY": "short", "WANDB_SWEEP_ID": "abc", "WANDB_RUN_ID": "x", "WANDB_RESUME": "must"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**environment, **names}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ids, project, why = done.stdout.strip().split("|")
    assert (ids, project) == ("2", "{'llm-sweeps'}")
    assert why.startswith("AuthenticationError: ")
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 2
