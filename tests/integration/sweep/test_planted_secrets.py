"""Credentials are planted wherever a sweep could pick them up; then every file that it wrote is searched."""

import json

import pytest

from tests.integration.conftest import run_sweep

PLANTED = {
    "WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567",
    "HF_TOKEN": "hf_" + "PlantedInTheEnvironment0123456789",
    "AWS_SECRET_ACCESS_KEY": "planted/in/the/environment/0123456789/ab",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "remote.origin.url",
    "GIT_CONFIG_VALUE_0": "https://planted-user:planted-in-a-remote@example.org/x.git",
}
pytestmark = pytest.mark.slow

IN_AN_ERROR = "planted-in-an-error"
SECRETS = [
    PLANTED["WANDB_API_KEY"],
    PLANTED["HF_TOKEN"],
    PLANTED["AWS_SECRET_ACCESS_KEY"],
    "planted-in-a-remote",
    IN_AN_ERROR,
]

SCORER = f"""
import os

def score(answer, item):
    if answer == item.response:
        return 1.0
    names = ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY")
    shown = " ".join(os.environ[name] for name in names)
    raise RuntimeError(f"planted: https://user:{IN_AN_ERROR}@example.org password={IN_AN_ERROR} {{shown}}")
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A sweep whose only trial fails with an error that holds every credential."""
    place = tmp_path_factory.mktemp("planted")
    (place / "planted_scorer.py").write_text(SCORER)
    done = run_sweep(
        "conf/smoke.yaml", f"storage_path={place}", "search.trials=1", "resources.max_failures=0", "wandb.mode=offline",
        "heldout.answers_at=[last]", "heldout.areas.tables.scorers=['planted_scorer:score']",
        PYTHONPATH=str(place), **PLANTED,
    )  # fmt: skip
    return place / "smoke", done


def test_the_error_is_kept_without_the_credentials(planted):
    folder, done = planted
    assert done.returncode == 3, done.stderr + done.stdout
    (trial,) = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert trial["state"] == "failed"
    assert "planted: https://***@example.org password=*** *** *** ***" in trial["error"]


@pytest.mark.parametrize("secret", SECRETS)
def test_no_file_and_no_line_holds_one(planted, secret):
    folder, done = planted
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"ledger.jsonl", "manifest.json", "sweep.yaml", "trials.jsonl"} <= {path.name for path in files}
    assert any(path.suffix == ".wandb" for path in files)
    assert [str(path) for path in files if secret.encode() in path.read_bytes()] == []
    assert secret not in done.stdout + done.stderr


def test_a_config_that_holds_one_is_refused_and_nothing_is_written(tmp_path):
    address = f"https://user:{IN_AN_ERROR}@example.org/train.jsonl"
    done = run_sweep("conf/smoke.yaml", f"storage_path={tmp_path}", f"data.train={address}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: data.train: must hold no credential")
    assert IN_AN_ERROR not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
