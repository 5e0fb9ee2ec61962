"""What a plan says of W&B: no key for `online`, and variables that count or don't."""

import importlib.util
import os
import subprocess
import sys

import pytest

from sweeps.plan.findings import missing_key, missing_mlflow, refused_variables, tracking_findings
from trainables.errors import UserErrors
from trainables.tracking import wandb_client


@pytest.mark.parametrize(
    ("mode", "why", "found"),
    [
        ("online", "none", ["wandb.mode: online needs an API key that W&B knows, got none; run `wandb login`, set"]),
        ("online", "", []),
        ("auto", "none", []),
        ("offline", "none", []),
        ("disabled", "none", []),
    ],
)
def test_online_needs_a_key(load, monkeypatch, mode, why, found):
    monkeypatch.setattr(wandb_client, "missing_key", lambda: why)
    errors = [str(error) for error in missing_key(load(f"wandb.mode={mode}"))]
    assert len(errors) == len(found)
    assert all(error.startswith(start) for error, start in zip(errors, found, strict=True))


KEY = "from trainables.tracking.wandb_client import missing_key; print(missing_key())"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "none"),
        ({"WANDB_MODE": "offline"}, "none"),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, ""),  # the config's mode wins over the variable
        ({"WANDB_API_KEY": "too short"}, "one that can't be used: "),
    ],
)
def test_wandb_itself_says_whether_a_key_is_known(tmp_path, variables, said):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), **variables}
    done = subprocess.run([sys.executable, "-c", KEY], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(said)
    assert bool(done.stdout.strip()) is bool(said)


@pytest.mark.parametrize(
    ("variables", "overrides", "found"),
    [
        ({}, [], []),
        ({"WANDB_PROJECT": "p"}, [], ["WANDB_PROJECT is set: wandb.project is p"]),
        (
            {"WANDB_PROJECT": "p"},
            ["wandb.project=q"],
            ["WANDB_PROJECT is set: it is not used, for the config names wandb.project"],
        ),
        ({"WANDB_TAGS": "a,b"}, [], ["WANDB_TAGS is set: wandb.tags is a, b"]),
        ({"WANDB_DISABLED": "true"}, [], ["WANDB_DISABLED is set: wandb.mode is disabled"]),
        (
            {"WANDB_SWEEP_ID": "a", "WANDB_RUN_ID": "b"},
            [],
            [
                "WANDB_SWEEP_ID is set: it is not used, for each trial has a run of its own",
                "WANDB_RUN_ID is set: it is not used, for each trial has a run of its own",
            ],
        ),
    ],
)
def test_variables_that_count_are_said_and_those_that_dont(load, monkeypatch, variables, overrides, found):
    for name in ("WANDB_PROJECT", "WANDB_TAGS", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert [finding.message for finding in tracking_findings(load(*overrides))] == found


@pytest.mark.parametrize(("overrides", "errors"), [([], 0), (["mlflow=sqlite:////tmp/x.db"], 1)])
def test_mlflow_must_be_installed_where_it_is_asked_for(load, monkeypatch, overrides, errors):
    config = load(*overrides)
    assert missing_mlflow(config) == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    found = [str(error) for error in missing_mlflow(config)]
    assert len(found) == errors
    assert all(error.startswith("mlflow.tracking_uri: needs the package mlflow-skinny, got none; ") for error in found)


def test_a_variable_that_wandb_does_not_take_is_an_error_of_the_plan(load, monkeypatch):
    values = {"WANDB_MODE": "bogus", "WANDB_SILENT": "maybe", "WANDB_BASE_URL": "foo", "WANDB_RUN_ID": "a/b"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    errors = {error.where: str(error) for error in refused_variables(load())}
    assert errors.keys() == {"WANDB_MODE", "WANDB_SILENT", "WANDB_BASE_URL"}, "a run's own id is never used"
    assert errors["WANDB_MODE"].startswith("WANDB_MODE: W&B must take it: Input should be 'online', 'offline'")
    assert errors["WANDB_MODE"].endswith("got bogus; correct it, or unset it; wandb: off tracks nothing")
    assert refused_variables(load("wandb=off")) == []


@pytest.mark.parametrize("override", ["wandb.project=a/b", f"wandb.project={'p' * 129}", f"wandb.tags=[{'t' * 65}]"])
def test_what_wandb_takes_for_no_project_or_tag_is_refused(load, override):
    with pytest.raises(
        UserErrors, match=r"^wandb\.(project: must have 1 to 128|tags: must be tags of 1 to 64) characters"
    ):
        load(override)
