"""The command's way through a start, an interruption and a resume, in a folder and in a store, with no lane at work."""

import contextlib
import json
import shutil

import pytest

from analysis.cli import INTERRUPTED, NO_COMPLETE_TRIAL, WRONG_INPUT
from sweeps import run
from sweeps.lanes import cluster, lanes
from sweeps.ledger.ledger import Ledger
from sweeps.phases import conduct
from trainables.storage.checksums import sha256_of
from trainables.storage.object_store import Remote
from trainables.storage.working_copy import copy_folder, join_ledger

AREAS = {"tables": {"nll": 5.0, "items": 2}, "invoices": {"nll": 6.0, "items": 2}}


@pytest.fixture
def command(monkeypatch):
    """Runs `sweeps.run`; what stands in the place of the search gives the sweep's state."""
    plan = cluster.LanePlan(lanes=1, workers=1, use_gpu=False, cpus=1)
    monkeypatch.setattr(cluster, "connected", lambda _address: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "plan_lanes", lambda _resources, may_grow: plan)
    monkeypatch.setattr(cluster, "hardware", dict)
    monkeypatch.setattr(lanes, "running", lambda *_, **__: contextlib.nullcontext())

    def command(*arguments, state):
        def search(sweep, _running):
            if not (sweep.config.folder / "baseline.json").exists():
                (sweep.config.folder / "baseline.json").write_text(json.dumps({"areas": AREAS}))
                sweep.ledger.append("baseline", areas=AREAS)
            return state

        monkeypatch.setattr(conduct, "search", search)
        return run.main([*map(str, arguments)])

    return command


@pytest.mark.parametrize("where", ["folder", "store"])
def test_a_sweep_is_interrupted_and_goes_on(where, command, store_url, tmp_path, capsys):
    storage = str(tmp_path / "sweeps") if where == "folder" else store_url
    place = f"{storage}/smoke"
    arguments = ("conf/smoke.yaml", f"storage_path={storage}", "wandb.mode=disabled")
    assert command(*arguments, state="interrupted") == INTERRUPTED
    assert f"continue it: python -m sweeps.run --resume {place}" in capsys.readouterr().out
    assert command(*arguments, state="complete") == WRONG_INPUT
    assert f"the sweep's folder must not exist yet, got {place}" in capsys.readouterr().err
    if where == "store":
        shutil.rmtree(copy_folder(place, "driver"))  # as on another machine
    assert command("--resume", place, state="complete") == NO_COMPLETE_TRIAL

    if where == "folder":
        folder = tmp_path / "sweeps" / "smoke"
    else:
        folder, remote = tmp_path / "read", Remote(place)
        join_ledger(remote, folder / "ledger.jsonl")
        for name in ("manifest.json", "baseline.json"):
            remote.fetch(name, folder / name)
        assert {"sweep.yaml", "plan.json", "study.log", "cache/train.arrow"} <= remote.listed().keys()
    events = [(e["event"], e["driver_epoch"]) for e in Ledger(folder).read()[0] if e["event"] != "driver_closed"]
    first = [("sweep_started", 1), ("baseline", 1), ("sweep_ended", 1)]
    assert events == [*first, ("sweep_started", 2), ("sweep_ended", 2)]
    assert json.loads((folder / "manifest.json").read_text())["state"] == "complete"
    assert json.loads((folder / "baseline.json").read_text())["areas"] == AREAS


@pytest.mark.parametrize("where", ["folder", "store"])
def test_lost_tokens_are_made_anew_where_the_sweep_lies(where, command, store_url, tmp_path, capsys):
    storage = str(tmp_path / "sweeps") if where == "folder" else store_url
    place = f"{storage}/smoke"
    command("conf/smoke.yaml", f"storage_path={storage}", "wandb.mode=disabled", state="interrupted")
    if where == "store":
        Remote(place).drop("cache")
        shutil.rmtree(copy_folder(place, "driver"))
    else:
        shutil.rmtree(tmp_path / "sweeps/smoke/cache")
    assert command("--resume", place, state="complete") == NO_COMPLETE_TRIAL
    assert "tokenized data of train, tables, invoices is gone or damaged: it is made anew" in capsys.readouterr().out
    folder = tmp_path / "sweeps/smoke" if where == "folder" else copy_folder(place, "driver")
    hashes = json.loads((folder / "manifest.json").read_text())["tokenized_sha256"]
    assert hashes["train"] == sha256_of(folder / "cache/train.arrow")
    if where == "store":
        assert {"cache/train.arrow", "cache/heldout-tables.arrow"} <= Remote(place).listed().keys()
