"""A config that holds a credential is refused; names of areas and trials can't leave the sweep's folder."""

import pytest
import yaml
from pydantic import ValidationError

from sweeps.config.sweep_config import load_config
from sweeps.lanes.cluster import close_token_file
from tests.unit.sweeps.helpers import SMALL
from trainables.config.trial_spec import TrialSpec
from trainables.errors import UserErrors

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        (f"data.train=https://user:{SECRET}@example.org/train.jsonl", "data.train"),
        (f"model.name=https://user:{SECRET}@example.org/model", "model.name"),
        ("wandb.tags=[ok, 'hf_" + SECRET * 3 + "']", "wandb.tags[1]"),
        ("objective=${oc.env:PLANTED_TOKEN}", "objective"),
    ],
)
def test_a_credential_is_refused_and_not_shown(small, monkeypatch, override, key):
    monkeypatch.setenv("PLANTED_TOKEN", SECRET)
    with pytest.raises(UserErrors) as caught:
        load_config(small, [override])
    line = str(caught.value)
    assert line.startswith(f"{key}: must hold no credential")
    assert SECRET not in line
    assert "***" in line


@pytest.mark.parametrize("name", ["../out", "a/b", "a\\b", ".hidden", "", "x" * 101, "new\nline", "-flag"])
def test_areas_that_would_leave_the_folder_are_refused(small, name):
    small.write_text(yaml.safe_dump({**SMALL, "heldout": {"areas": {name: "home.jsonl"}}}))
    with pytest.raises(UserErrors, match="a name is letters, digits"):
        load_config(small)


@pytest.mark.parametrize("name", ["home", "In-domain 2", "größe_v1.5", "Ärzte"])
def test_areas_have_ordinary_names(small, name):
    small.write_text(yaml.safe_dump({**SMALL, "heldout": {"areas": {name: "home.jsonl"}}}))
    assert list(load_config(small).heldout.areas) == [name]


@pytest.mark.parametrize("name", ["../out", "a/b", ".", "..", ""])
def test_a_trial_of_a_ledger_that_was_tampered_with_is_refused(name):
    with pytest.raises(ValidationError):
        TrialSpec(trial_id=name, seed=0, params={})


def test_rays_token_file_is_for_its_owner_only(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    close_token_file()
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("x")
    token.chmod(0o644)
    close_token_file()
    assert token.stat().st_mode & 0o777 == 0o600
