"""The simulated sweep is a whole one: every trial once, in the ledger, the file and the study."""

import asyncio
import json

import optuna
import pytest

from benchmarks.scale.__main__ import history, proposal_ms, recovery_seconds
from benchmarks.scale.simulation import CHECKPOINTS, PARTS, Simulation, config_in
from sweeps.ledger.ledger import Ledger
from sweeps.search.study import open_storage


def test_every_trial_ends_once_everywhere_and_figures_add_up(tmp_path):
    config = config_in(tmp_path, "random", trials=7)
    figures = asyncio.run(Simulation(config, lanes=3, steps=5, step_seconds=0.02).run())
    events, faults = Ledger(config.folder).read()
    ids = [f"t{number:04d}" for number in range(1, 8)]
    assert faults == []
    for kind, name in (("trial_submitted", "spec"), ("trial_ended", "trial")):
        assert sorted(event[name]["trial_id"] for event in events if event["event"] == kind) == ids
    lines = [json.loads(line) for line in (config.folder / "trials.jsonl").read_text().splitlines()]
    assert all(len(line["checkpoints"]) == CHECKPOINTS for line in lines)
    study = optuna.load_study(study_name=config.name, storage=open_storage(config.folder))
    assert sorted(trial.user_attrs["trial_id"] for trial in study.trials) == ids
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)
    assert figures["ledger_of_proposals"]["events"] == figures["ledger_of_ends"]["events"] == 7
    assert figures["search"]["events"] == 7 * (1 + CHECKPOINTS + 1)
    assert figures["cpu_share_of_wall"] > 0
    assert figures["cpu_share_of_wall"] == pytest.approx(figures["cpu_seconds"] / figures["wall_seconds"], rel=0.3)
    assert 0 < figures["lanes_busy"] < 1
    parts = [figures[name]["cpu_ms_an_event"] * figures[name]["events"] for name in PARTS]
    assert sum(parts) < 1e3 * figures["cpu_seconds"]


def test_proposals_are_asked_of_a_study_that_has_the_history(tmp_path):
    trials = history(config_in(tmp_path, "random", 1), 20)
    assert len({trial.value for trial in trials}) == 20
    assert proposal_ms("random", 20) > 0


def test_a_ledger_of_the_benchmark_is_recovered(monkeypatch):
    recovery_seconds(5)
    monkeypatch.setattr("benchmarks.scale.__main__.history", lambda config, trials: history(config, trials - 1))
    with pytest.raises(AssertionError, match="4 of 5 trials came back"):
        recovery_seconds(5)
