"""The plan of kills: repeated by its seed, of the promised size, at places that the code has."""

import re
from pathlib import Path

import pytest

from sweeps.config.sweep_config import dump_config, load_config
from tests.chaos.acts import NODE_BACK, five, sixty
from tests.chaos.edits import CONFIG, EDITS, Edited
from trainables.storage import layout

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "".join(path.read_text() for name in ("sweeps", "trainables") for path in (ROOT / name).rglob("*.py"))
KINDS = {"worker", "controller", "dispatcher", "driver", "second node"}


def kills(acts):
    return [kill for act in acts for kill in act.kills if kill.target != NODE_BACK]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_repeats_a_plan_of_more_than_sixty_kills_of_every_kind(seed):
    acts, who = sixty(seed)
    assert (acts, who) == sixty(seed)
    assert acts != sixty(seed + 1)[0]
    assert len(kills(acts)) >= 60
    assert {who[kill.name] for kill in kills(acts)} >= KINDS
    acts, who = five(seed)
    assert sorted(who[kill.name] for kill in kills(acts)) == sorted(KINDS)


def test_every_place_is_in_the_code():
    stages = set(re.findall(r'fault_injection\.reached\w*\(\s*"([^"]+)"', SOURCE))
    events = set(re.findall(r'\.append\(\s*"(\w+)"', SOURCE)) | {layout.TRIALS_FILE}
    reports = set(re.findall(r'"kind": "(\w+)"', SOURCE))
    files = {value for value in vars(layout).values() if isinstance(value, str)}
    for kill in [*kills(sixty(1)[0]), *kills(sixty(2)[0])]:
        assert kill.stage in stages, kill
        what = re.sub(r" ?t\d+/?|chaos/|/step-\d+", "", kill.of)
        seam = kill.stage.partition("_")[0]
        assert what in {"ledger": events, "line": events, "post": reports}.get(seam, files), kill


@pytest.mark.parametrize("name", [name for name, edit in EDITS.items() if edit.file == CONFIG])
def test_an_edit_changes_the_key_that_its_refusal_names_and_is_undone(tmp_path, monkeypatch, name):
    monkeypatch.chdir(ROOT)
    path = tmp_path / CONFIG
    path.parent.mkdir()
    path.write_text(dump_config(load_config("conf/smoke.yaml", ["data.limit=80"])))
    before = path.read_bytes()
    with Edited(EDITS[name], tmp_path) as edit:
        changed = load_config(path).model_dump()
    assert path.read_bytes() == before
    original = load_config(path).model_dump()
    for part in edit.named.split("."):
        original, changed = original[part], changed[part]
    assert original != changed
