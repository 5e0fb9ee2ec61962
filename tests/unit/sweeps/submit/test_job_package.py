"""What a job is sent: the code, the resolved config and the files that it names; nothing that lies beside them."""

import subprocess
import sys

import pytest
import yaml

from sweeps.config.sweep_config import load_config
from sweeps.submit.job_package import CONFIG_FILE, pack
from tests.unit.sweeps.helpers import SMALL
from trainables.errors import UserError, UserErrors

pytestmark = pytest.mark.usefixtures("place")
SECRETS = (".env", ".netrc", "id_rsa", "outputs/old/ledger.jsonl", "own/.env", "own/notes.txt", "data/other.jsonl")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder with data, scorers, secrets and earlier outputs."""
    place = tmp_path / "here"
    for name in ("data/train.jsonl", "home.jsonl", "own/__init__.py", "own/part.py", "single.py", *SECRETS):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"raise AssertionError('{name} was imported')\n" if name.endswith(".py") else "{}\n")
    scorers = ["exact_match", "own.part:score", "single:score", "json:loads", {"number_within": 0.1}]
    areas = {"home": {"path": "home.jsonl", "scorers": scorers}, "far": "owner/a-hub-id"}
    own = {"data": {"train": "data/train.jsonl"}, "heldout": {"areas": areas}, "storage_path": "/mnt/sweeps"}
    (place / "mine.yaml").write_text(yaml.safe_dump(SMALL | own))
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)


def packed(tmp_path, *overrides):
    folder = tmp_path / "parcel"
    folder.mkdir(exist_ok=True)
    return folder, pack(load_config("mine.yaml", list(overrides)), folder)


def test_only_what_is_named_is_sent(tmp_path):
    folder, names = packed(tmp_path)
    assert names == sorted(
        [CONFIG_FILE, "data/train.jsonl", "home.jsonl", "own/__init__.py", "own/part.py", "single.py"]
    )
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    code = {name for name in files if name.split("/")[0] in ("sweeps", "trainables", "analysis")}
    assert files - code == set(names)
    assert not any(name.endswith(".pyc") or "/." in name for name in files)


def test_the_config_goes_with_its_overrides_resolved_and_the_code_that_is_sent_runs_there(tmp_path):
    folder, _ = packed(tmp_path, "search.trials=5")
    assert load_config(folder / CONFIG_FILE) == load_config("mine.yaml", ["search.trials=5"])
    code = "import sys; sys.path.insert(0, '.'); import sweeps.run as r; print(r.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == str(folder / "sweeps" / "run.py")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("storage_path=outputs", "storage_path: must be absolute for a job on a cluster, got outputs; "),
        ("model.name=data", "model.name: must be absolute or a Hugging Face id for a job, got data; "),
        ("search.warm_start=[outputs/old]", "search.warm_start[0]: must be absolute for a job"),
        ("data.train=../here/data/train.jsonl", "data.train: must lie below the current folder, or be "),
    ],
)  # fmt: skip
def test_paths_that_would_be_lost_on_the_cluster_are_refused(tmp_path, override, line):
    with pytest.raises(UserErrors) as caught:
        packed(tmp_path, override)
    assert str(caught.value).startswith(line)


def test_large_data_is_not_sent_and_a_scorer_that_is_nowhere_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.submit.job_package.LARGEST_BYTES", 1000)
    with pytest.raises(UserError, match="files sent with a job must be at most"):
        packed(tmp_path)
    with pytest.raises(UserError, match="the module of the scorer nowhere_at_all must be found"):
        packed(tmp_path, "heldout.areas.home.scorers=['nowhere_at_all:score']")
