"""Workspace and report, by the real command and client, against a loopback server that keeps what it is sent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.integration.wandb.wandb_case import KEY, REPO
from tests.integration.wandb.wandb_server import WandbServer

from analysis.rank.leaderboard import leaderboard
from analysis.records.sweep import read_sweep
from analysis.wandb_view import __main__
from analysis.wandb_view import panels as wandb_panels
from tests.unit.analysis.synthetic_sweep import write_synthetic_sweep
from trainables.errors import UserError
from trainables.tracking.run_facts import area_row, step_row
from trainables.training.curve_recorder import StepRecord

RECORD = StepRecord(
    step=1,
    lr=1e-3,
    loss=2.0,
    base_loss=2.5,
    grad_norm=0.5,
    clipped=False,
    tokens=1,
    ids=["a"],
    item_nll=[2.0],
    item_tokens=[1],
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_synthetic_sweep(tmp_path_factory.mktemp("views"), trials=4)


def run(folder: Path, home: Path, url: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HOME": str(home), "NETRC": str(home / "netrc"), "PYTHONPATH": str(REPO)}
    if url:
        environment |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
    command = [sys.executable, "-m", "analysis.wandb_view", str(folder)]
    return subprocess.run(
        command, env=environment | more, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )


def panels(tree):
    """Every panel of a spec, by its kind in W&B's words, wherever it lies."""
    if isinstance(tree, dict):
        if "viewType" in tree:
            yield tree["viewType"], tree["config"]
        for inner in tree.values():
            yield from panels(inner)
    elif isinstance(tree, list):
        for inner in tree:
            yield from panels(inner)


def values(tree, key):
    """Everything under a key, wherever it lies."""
    if isinstance(tree, dict):
        for name, inner in tree.items():
            if name == key:
                yield [without_ids(one) for one in inner]
            else:
                yield from values(inner, key)
    elif isinstance(tree, list):
        for inner in tree:
            yield from values(inner, key)


def without_ids(tree):
    return {name: inner for name, inner in tree.items() if name != "id"}


def test_workspace_and_report_as_they_are_sent(sweep, tmp_path):
    with WandbServer() as server:
        done = run(sweep, tmp_path, server.url)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        again = run(sweep, tmp_path, server.url)
        assert again.returncode == 0, again.stderr
    views = server.views
    kinds = [view["type"] for view in views]
    assert kinds == ["project-view", "runs"] * 2
    assert [view.get("id") for view in views] == [None, None, "view-0", "view-1"]  # replaced, not made twice
    assert all((view["entityName"], view["projectName"]) == ("team", "llm-sweeps") for view in views)
    for name, view in zip(("workspace", "report"), views, strict=False):
        check_spec(name, json.loads(view["spec"]), sweep)
    said = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in said] == ["workspace", "report"]
    assert all("/team/llm-sweeps" in line for line in said)
    assert KEY not in "".join(body for _, body in server.bodies)


def check_spec(view, spec, sweep):
    """The pictures are of the keys that the tracker logs, the runs are the sweep's alone, the words are the board's."""
    config, board = yaml.safe_load((sweep / "sweep.yaml").read_text()), leaderboard(sweep)
    areas = sorted(config["heldout"]["areas"])
    found = list(panels(spec))
    lines = [config for kind, config in found if kind == "Run History Line Plot"]
    assert [line["metrics"] for line in lines] == [
        ["train/loss_minus_base"],
        ["train/lr"],
        [f"heldout/{area}/nll" for area in areas],
    ]
    assert {line["xAxis"] for line in lines} == {"step"}
    bars = [config["metrics"] for kind, config in found if kind == "Bar Chart"]
    assert bars == [[f"heldout/{area}/gain"] for area in areas]
    (parallel,) = [config for kind, config in found if kind == "Parallel Coordinates Plot"]
    axes = {column["accessor"]: column.get("log") for column in parallel["columns"]}
    searched = {name: bounds["log"] for name, bounds in config["space"].items() if isinstance(bounds, dict)}
    assert searched["peak_lr"]
    assert axes == {f"config:{name}.value": log for name, log in searched.items()} | {"summary:verdict.objective": None}
    text = json.dumps(spec, ensure_ascii=False)
    (run_sets,) = {json.dumps(sets) for sets in values(spec, "runSets")}
    assert '"name": "group"}, "op": "=", "value": "synthetic"' in run_sets
    assert '"name": "verdict.objective"}, "ascending": true' in run_sets
    assert f'"summary:heldout/{areas[0]}/gain": true' in run_sets
    assert board["verdict"] in text
    if view == "report":
        first = board["rows"][0]
        low, high = first["gain_interval"]
        assert f"| 1 | {first['trial_id']} | complete | {first['step']} | {first['objective']:.3f} " in text
        assert f"{first['gain']:.3f} [{low:.3f}, {high:.3f}]" in text
        advice = [found["advice"] for trial in read_sweep(sweep).trials for found in trial.findings]
        assert advice
        assert all(one in text for one in advice)


def test_what_is_logged_is_what_is_drawn():
    """The tracker's own keys, in a run's history, hold every metric of the line plots."""
    logged = {*step_row(RECORD), *area_row(1, {"tables": {"nll": 1.0, "items": 3}}, {"tables": {"nll": 2.0}})}
    drawn = {wandb_panels.STEP, wandb_panels.RELATIVE_LOSS, wandb_panels.LR}
    assert drawn | {"heldout/tables/nll", "heldout/tables/gain"} <= logged


@pytest.mark.parametrize(
    ("more", "got"),
    [
        ({}, "must be online, with an API key, got offline mode"),
        ({"WANDB_MODE": "offline", "WANDB_API_KEY": KEY}, "must be online, with an API key, got offline mode"),
        ({"WANDB_MODE": "disabled", "WANDB_API_KEY": KEY}, "must be online, with an API key, got disabled mode"),
    ],
)
def test_offline_or_without_a_key_is_one_line(sweep, tmp_path, more, got):
    done = run(sweep, tmp_path, **more)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: wandb: {got}; ")


def test_a_server_that_refuses_is_one_line(sweep, tmp_path):
    with WandbServer() as server:
        server.behaviour = "refuse"
        done = run(sweep, tmp_path, server.url)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: wandb: must answer and accept the views, got ")
    assert KEY not in line


def test_a_sweep_that_recorded_nothing_and_a_missing_library_are_one_line(sweep, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.delitem(sys.modules, "analysis.wandb_view.panels", raising=False)
    with pytest.raises(UserError, match=r"must be installed, got no module wandb_workspaces; pip install"):
        __main__.panels_module()
    copy = tmp_path / "off"
    shutil.copytree(sweep, copy)
    text = (copy / "sweep.yaml").read_text().replace("mode: auto", "mode: disabled")
    (copy / "sweep.yaml").write_text(text)
    with pytest.raises(UserError, match="must not be disabled"):
        __main__.make_views(copy)
