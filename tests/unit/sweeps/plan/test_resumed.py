"""A resume trusts nothing that it finds: config, model, data, tokens and versions are those of the first start."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from sweeps.config.paths import with_absolute_paths
from sweeps.config.sweep_config import SweepConfig, dump_config, load_config
from sweeps.folder.manifest import Manifest
from sweeps.folder.origin import completed, recorded
from sweeps.folder.resume import MAY_CHANGE, resumed_config
from sweeps.folder.sweep_folder import claim_folder, draft_folder
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.ledger import Ledger
from sweeps.plan.plan import Plan, make_plan
from sweeps.plan.resumed import lost_sets, restore_tokens, restored, unchanged
from sweeps.rebuild.__main__ import config_of
from sweeps.submit.__main__ import planned
from tests.unit.sweeps.helpers import SMALL
from trainables.errors import UserError, UserErrors

OLD = Path(__file__).parents[3] / "data" / "sweep_of_0_1"


def sample(number):
    return {"id": f"s{number}", "prompt": f"What is number {number}?", "response": "it it it"}


def start(config, folder):
    """What `sweeps.run` writes when a sweep starts, lanes aside."""
    with draft_folder(config) as draft:
        plan = make_plan(config, draft)
        config = with_absolute_paths(config)
        (draft / "sweep.yaml").write_text(dump_config(config))
        plan.write(draft)
        claim_folder(draft, SweepStore.of_driver(str(folder)))
    begin(config, plan.model_path, {})


def begin(config, model_path, began, *, resumed=False):
    origin = completed(began, config, model_path)
    with Manifest.opened(config, model_path, {"gpus": 0}, {"sweep_id": "a"}, origin, resumed=resumed):
        started = {"config": config.model_dump(mode="json"), "origin": origin}
        Ledger.of_new_driver(config.folder).append("sweep_started", **started)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    before = Path.cwd()
    os.chdir(place)
    try:
        for name, numbers in (("train.jsonl", range(8)), ("home.jsonl", range(100, 104))):
            (place / name).write_text("".join(json.dumps(sample(number)) + "\n" for number in numbers))
        own = {"model": {"name": "random:tiny-llama"}, "data": {"train": "train.jsonl", "max_tokens": 256}}
        (place / "own.yaml").write_text(yaml.safe_dump({**SMALL, **own, "storage_path": "outputs"}))
        make_plan(load_config("own.yaml"), place / "draft" if (place / "draft").mkdir() is None else place)
        shutil.copytree(next(path for path in (place / ".cache/models").iterdir() if path.is_dir()), place / "model")
        start(load_config("own.yaml", ["model.name=model"]), place / "outputs/small")
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def place(built, tmp_path, monkeypatch):
    """A folder with data, model and a sweep that has started, and the current folder."""
    here = shutil.copytree(built, tmp_path / "place")
    for file in ("outputs/small/sweep.yaml", "outputs/small/plan.json", "outputs/small/ledger.jsonl"):
        # The copy began here: the paths in it are absolute.
        text = (here / file).read_text().replace(str(built), str(here))
        (here / file).write_text(text)
    reseal(here / "outputs/small/ledger.jsonl")
    monkeypatch.chdir(here)
    return here


def reseal(path):
    from sweeps.ledger.ledger import seal

    events = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(seal({k: v for k, v in event.items() if k != "crc32"}) for event in events))


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def refused(folder, *overrides, config=None, **more):
    try:
        unchanged(folder, config, list(overrides), **more)
    except (UserError, UserErrors) as error:
        return str(error).splitlines()
    return []


def test_paths_are_absolute_from_the_first_start_and_a_resume_elsewhere_finds_the_same(place, monkeypatch, tmp_path):
    folder = place / "outputs/small"
    monkeypatch.chdir(tmp_path)
    config, _, began = unchanged(folder, None, [])
    assert config.data.train == str(place / "train.jsonl")
    assert config.heldout.areas["home"].path == str(place / "home.jsonl")
    assert config.model.name == str(place / "model")
    assert config.storage_path == str(place / "outputs")
    assert set(began["data_sha256"]) == set(began["tokenized_sha256"]) == {"train", "home"}
    assert {"config.json", "tokenizer.json"} <= set(began["model_files_sha256"])


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("batch_size: 8", "batch_size: 2", ["training.batch_size: must stay"]),
        ("weight_decay: 0.0", "weight_decay: 0.3", ["training.weight_decay: must stay"]),
        ("seed: 0", "seed: 1", ["seed: must stay"]),
        ("workers_per_lane: 1", "workers_per_lane: 2", ["resources.workers_per_lane: must stay"]),
        ("shard: auto", "shard: false", ["resources.shard: must stay"]),
        ("train.jsonl", "gone.jsonl", ["data.train: must name the file that the sweep began with"]),
        ("home.jsonl", "train.jsonl", ["heldout.areas.home.path: must hold what it held when the sweep began"]),
        ("limit: null", "limit: 3", ["data.limit: must stay", "heldout.areas.home.limit: must stay"]),
        ("high: 0.001", "high: 0.002", ["space.peak_lr.high: must stay"]),
        ("trials: 12", "trials: 11", ["search.trials: must stay as it was in a resumed sweep, got 11 after 12"]),
        ("trials: 12", "trials: 13", []),
        ("max_failures: 2", "max_failures: 0", []),
        ("statement: Answer.", "statement: Answer well.", []),
        ("batch_tokens: 4096", "batch_tokens: 1024", []),
        ("name: small", "name: my sweep", []),
    ],
)
def test_an_edited_config_is_compared_with_the_ledgers_first_start(place, old, new, lines):
    folder = place / "outputs/small"
    edit(folder / "sweep.yaml", old, new)
    found = refused(folder)
    assert [line[: len(start)] for line, start in zip(found, lines, strict=True)] == lines
    assert all("rebuild" in line for line in found if "must stay as it was" in line and "trials" not in line)


def test_a_second_start_does_not_become_the_measure(place):
    folder = place / "outputs/small"
    config, plan, began = unchanged(folder, None, ["search.trials=14"])
    begin(config, plan.model_path, began, resumed=True)
    (folder / "sweep.yaml").write_text(dump_config(config))
    edit(folder / "sweep.yaml", "seed: 0", "seed: 1")
    assert refused(folder)[0].startswith("seed: must stay")
    edit(folder / "sweep.yaml", "seed: 1", "seed: 0")
    assert refused(folder, "search.trials=13")[0].startswith(
        "search.trials: must stay as it was in a resumed sweep, got 13"
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["later_starts"].values()) == ["as the first"]
    began["versions"]["torch"] = manifest["versions"]["torch"] = "1.13.1"
    (folder / "manifest.json").write_text(json.dumps({**manifest, "later_starts": {}}))
    begin(config, plan.model_path, began, resumed=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [list(differs) for differs in manifest["later_starts"].values()] == [["versions.torch"]]
    assert manifest["versions"]["torch"] == "1.13.1"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("train.jsonl", "data.train: must hold what it held when the sweep began, got another sha256"),
        ("home.jsonl", "heldout.areas.home.path: must hold what it held when the sweep began, got another sha256"),
        (
            "model/model.safetensors",
            "model.name: must be the model that the sweep began with, got another sha256 for m",
        ),
        ("model/config.json", "model.name: must be the model that the sweep began with, got another sha256 for config"),
        ("model/tokenizer.json", "model.name: must be the model that the sweep began with, got another sha256 for tok"),
    ],
)
def test_a_replaced_file_is_refused_and_no_hash_is_replaced(place, file, line):
    folder, path = place / "outputs/small", place / file
    before = (folder / "manifest.json").read_bytes()
    path.write_bytes(path.read_bytes() + b"\n")
    (found,) = refused(folder)
    assert found.startswith(line)
    # Neither a lost nor an edited manifest helps: the ledger has the hashes, too.
    (folder / "manifest.json").write_bytes(before.replace(b'"data_sha256": {', b'"data_sha256": {"x": "y",'))
    assert refused(folder) == [found]
    (folder / "manifest.json").unlink()
    assert refused(folder) == [found]


def test_all_that_differs_is_said_at_once_and_versions_can_be_accepted(place):
    folder = place / "outputs/small"
    ledger = folder / "ledger.jsonl"
    edit(ledger, f'"torch":"{recorded(Ledger(folder).read()[0], folder)["versions"]["torch"]}"', '"torch":"1.13.1"')
    reseal(ledger)
    (place / "train.jsonl").write_text("{}\n")
    lines = refused(folder)
    assert [line.partition(":")[0] for line in lines] == ["data.train", "versions.torch"]
    assert "must be 1.13.*, as when the sweep began" in lines[1]
    assert [line.partition(":")[0] for line in refused(folder, other_versions=True)] == ["data.train"]


def test_files_may_move_and_a_data_file_may_be_gone_while_its_tokens_verify(place):
    folder = place / "outputs/small"
    (place / "elsewhere").mkdir()
    (place / "train.jsonl").rename(place / "elsewhere/train.jsonl")
    (place / "model").rename(place / "elsewhere/model")
    assert "got" in refused(folder)[0], "the model is nowhere"
    moved = f"model.name={place}/elsewhere/model"
    assert refused(folder, moved) == []
    assert refused(folder, moved, f"data.train={place}/elsewhere/train.jsonl") == []
    assert refused(folder, moved, f"data.train={place}/home.jsonl")
    config, plan, began = unchanged(folder, None, [moved])
    assert lost_sets(config, folder, plan, began) == []
    assert plan.model_path == str(place / "elsewhere/model")


def test_a_folder_may_be_renamed_to_anything(place):
    folder = (place / "outputs/small").rename(place / "outputs/my [sweep] 2")
    for _ in range(2):
        config, plan, began = unchanged(folder, None, [])
        assert (config.name, config.folder) == ("my [sweep] 2", folder)
        begin(config, plan.model_path, began, resumed=True)
        (folder / "sweep.yaml").write_text(dump_config(config))
    assert config_of(folder, Ledger(folder).read()[0]).name == "my [sweep] 2"
    assert refused(folder, "name=small") == []
    assert refused(folder, "name=other")[0].startswith("name: must stay")


def test_a_folder_whose_name_no_file_can_hold_is_refused_at_once(place):
    folder = (place / "outputs/small").rename(place / "outputs/a\nb")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert refused(folder) == [
        f"--resume: must name a folder of printable characters in UTF-8, got {str(folder)!a}; rename the folder"
    ]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("left", [None, b""])
def test_a_ledger_that_is_gone_or_empty_is_no_fresh_start(place, left):
    folder = place / "outputs/small"
    (folder / "trials.jsonl").write_text("{}\n")
    (folder / "ledger.jsonl").unlink() if left is None else (folder / "ledger.jsonl").write_bytes(left)
    assert "must have the ledger of its trials" in refused(folder)[0]


def test_a_ledger_whose_first_start_is_damaged_vouches_for_no_config(place):
    folder = place / "outputs/small"
    Ledger.of_new_driver(folder).append("baseline", areas={})
    path = folder / "ledger.jsonl"
    path.write_bytes(b"x" + path.read_bytes())
    edit(folder / "sweep.yaml", "batch_size: 8", "batch_size: 2")
    assert (
        f"{path}: must begin with the sweep's start, got baseline as the first line that is whole" in refused(folder)[0]
    )


def test_an_empty_config_is_made_anew_by_rebuild(place):
    (place / "outputs/small/sweep.yaml").write_text("")
    assert "without sweep.yaml; make it anew: python -m sweeps.rebuild" in refused(place / "outputs/small")[0]


def test_a_folder_of_sweeps_is_refused_with_their_names(place):
    assert refused(place / "outputs")[0].endswith("; name one of the sweeps in it: small")


def test_another_storage_path_is_no_way_to_move_a_sweep(place):
    folder = place / "outputs/small"
    assert refused(folder, "storage_path=outputs") == refused(folder, f"storage_path={place}/outputs/") == []
    (line,) = refused(folder, "storage_path=/elsewhere")
    assert line.endswith("got /elsewhere; leave it out: to move the sweep, move its folder")


@pytest.mark.parametrize("harm", ["folder", "file", "damaged", "old"])
def test_lost_tokens_are_made_anew_the_same(place, harm, capsys):
    folder = place / "outputs/small"
    before = {path.name: path.read_bytes() for path in (folder / "cache").iterdir()}
    config, plan, began = unchanged(folder, None, [])
    if harm == "old":  # a sweep of a version that kept no hashes of tokens
        began = {part: value for part, value in began.items() if part != "tokenized_sha256"}
    if harm == "damaged":
        (folder / "cache/train.arrow").write_bytes(before["train.arrow"][:-9] + b"x" * 9)
    elif harm == "file":
        (folder / "cache/heldout-home.arrow").unlink()
    else:
        shutil.rmtree(folder / "cache")
    lost = {"folder": ["train", "home"], "old": ["train", "home"], "file": ["home"], "damaged": ["train"]}[harm]
    assert lost_sets(config, folder, plan, began) == lost
    with restored(config, plan, SweepStore.of_driver(str(folder)), began, Console()):
        assert {path.name: path.read_bytes() for path in (folder / "cache").iterdir()} == before
    assert f"the tokenized data of {', '.join(lost)} is gone or damaged" in capsys.readouterr().out
    assert not list(folder.glob(".cache*"))


def test_tokens_that_cannot_be_made_anew_are_one_line(place):
    folder = place / "outputs/small"
    shutil.rmtree(folder / "cache")
    (place / "train.jsonl").unlink()
    config, plan, began = unchanged(folder, None, [])
    with pytest.raises(UserErrors, match=r"neither it nor .*train.jsonl; restore one of the two"):
        restore_tokens(config, folder, plan, began, print)


def test_the_documented_table_is_that_of_the_code():
    text = (Path(__file__).parents[4] / "docs/howto/resume.md").read_text()
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", text.partition("| key | how |")[2].partition("\n- ")[0], re.MULTILINE)
    documented = {key for keys, _ in rows for key in re.findall("`(.+?)`", keys)}
    assert documented == set(MAY_CHANGE)
    known = SweepConfig.model_json_schema()["properties"]
    assert {key.partition(".")[0] for key in documented} <= set(known)


def plan_of(folder, place):
    return json.loads((folder / "plan.json").read_text().replace(f"{place}/", ""))


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"train": 1}', '{"model_path": "model"}'])
def test_a_plan_that_is_gone_or_damaged_is_made_anew(place, text):
    folder = place / "outputs/small"
    before = plan_of(folder, place)
    (folder / "plan.json").unlink() if text is None else (folder / "plan.json").write_text(text)
    said = []
    _, plan, _ = unchanged(folder, None, [], say=said.append)
    assert said == ["plan.json is gone or damaged: it is made anew"]
    plan.write(place / "again")
    again = plan_of(place / "again", place)
    assert {key for key in before if before[key] != again[key]} <= {"forecast"}, "the speed of the CPUs is measured"


def test_a_plan_is_not_made_from_other_or_missing_data(place):
    folder = place / "outputs/small"
    (folder / "plan.json").unlink()
    edit(place / "train.jsonl", "it it it", "its")
    (line,) = refused(folder)
    assert f"{folder}/plan.json: must be made anew as at the sweep's start, got other tokens for train" in line
    (place / "train.jsonl").unlink()
    (line,) = refused(folder)
    assert line.startswith(f"{folder}/plan.json: must be whole, or what it is made from be there, got none, and: ")
    assert "train.jsonl" in line


def test_areas_in_another_order_have_the_same_tokens(tmp_path):
    folder = shutil.copytree(OLD, tmp_path / "cut")  # without hashes of tokens: their counts tell
    config = resumed_config(folder, None, [])
    areas = dict(reversed(config.heldout.areas.items()))
    turned = config.model_copy(update={"heldout": config.heldout.model_copy(update={"areas": areas})})
    assert list(turned.heldout.areas) == ["invoices", "tables"]
    assert lost_sets(turned, folder, Plan.read(folder), {}) == []


@pytest.mark.usefixtures("place")
def test_a_job_of_a_sweep_that_has_begun_is_held_against_its_start():
    """As of `sweeps.submit --slurm` after `scancel`."""
    as_before, other = ["model.name=model"], ["model.name=model", "training.batch_size=2"]
    assert planned(load_config("own.yaml", as_before), "own.yaml", as_before).train.samples == 8
    with pytest.raises(UserErrors, match=r"^training\.batch_size: must stay"):
        planned(load_config("own.yaml", other), "own.yaml", other)
