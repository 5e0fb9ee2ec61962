"""What follows from the ledger alone: the config, the trials' file, the study; and what the command says."""

import json
from operator import attrgetter

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from sweeps.config.sweep_config import load_config
from sweeps.driver.recovery import recover
from sweeps.folder.resume import resumed_config
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.history import ended_trials, past_of, times_of
from sweeps.ledger.ledger import Ledger
from sweeps.rebuild.__main__ import main, rebuild
from sweeps.search.optuna_search import Beginning, Launch, SweepSearch
from sweeps.search.study import MARKS, mark_study, open_storage, tell_replicates
from trainables.config.trial_spec import TrialSpec
from trainables.errors import UserError

BASE = 3.0
AREAS = {"home": {"nll": BASE, "exact_match": None, "token_f1": None, "items": 4}}
POINT = {"peak_lr": 3e-4, "warmup_fraction": 0.05, "decay_floor": 4e-5}


@pytest.fixture
def config(load):
    config = load("search.sampler=random")
    config.folder.mkdir()
    return config


@pytest.fixture
def ledger(config):
    ledger = Ledger.of_new_driver(config.folder)
    ledger.append("sweep_started", name=config.name, config=config.model_dump(mode="json"))
    ledger.append("baseline", areas=AREAS)
    return ledger


def record(spec, state, values=(), **more):
    checkpoints = [{"step": 8 * (n + 1), "path": "p", "areas": {"home": {"nll": v}}} for n, v in enumerate(values)]
    names = ("trial_id", "kind", "replicate_of", "seed", "params", "drawn")
    more |= {"steps": 16, "steps_planned": 16}
    return {**{n: getattr(spec, n) for n in names}, "state": state, "checkpoints": checkpoints, "findings": [], **more}


def as_told(config):
    study = optuna.load_study(study_name=config.name, storage=open_storage(config.folder))
    told = attrgetter("state", "value", "params", "distributions", "intermediate_values", "user_attrs")
    return {trial.user_attrs["trial_id"]: told(trial) for trial in study.trials}


def search_of(config, ledger, history=()):
    """A search as the driver runs it: what it submits goes to the ledger."""
    specs = []

    def submitted(spec):
        ledger.append("trial_submitted", spec=spec.model_dump())
        specs.append(spec)

    return SweepSearch(config, BASE, Launch({"lanes": "x"}, submitted), Beginning([POINT], history)), specs


def end(search, ledger, spec, tune_id, state, values=(), **more):
    """A trial ends: the ledger and Optuna are told."""
    for number, value in enumerate(values):
        search.on_trial_result(
            tune_id, {"state": "running", "objective": value, "step": 8 * (number + 1), "fraction": (number + 1) / 2}
        )
    ledger.append("trial_ended", trial=record(spec, state, values, **more))
    search.on_trial_complete(tune_id, {"state": state, "objective": values[-1] if values else float("nan"), "step": 8})


def test_the_rebuilt_study_is_the_one_that_the_search_wrote_and_replicates_are_not_added_twice(config, ledger):
    search, specs = search_of(config, ledger)
    for tune_id in "abcdef":
        search.suggest(tune_id)
    search.predictions["t0003"] = 2.7
    end(search, ledger, specs[0], "a", "complete", [2.5, 2.0])
    end(search, ledger, specs[1], "b", "diverged", [9.0])
    end(search, ledger, specs[2], "c", "pruned", [2.9], predicted=2.7)
    end(search, ledger, specs[3], "d", "failed")
    end(search, ledger, specs[4], "e", "pruned", [2.95])
    search.close()  # the sixth was interrupted
    again = specs[0].model_copy(update={"trial_id": "t0001-s1", "kind": "replicate", "replicate_of": "t0001"})
    replicate = record(again, "complete", [2.1])
    ledger.append("trial_submitted", spec=again.model_dump())
    ledger.append("trial_ended", trial=replicate)
    tell_replicates(config, [replicate], BASE)
    live = as_told(config)

    (config.folder / "study.log").write_text("torn")
    said = rebuild(config.folder)
    assert as_told(config) == live
    assert len(live) == 7
    assert live["t0006"][0] == TrialState.FAIL
    assert "study.log: 7 trials" in said
    times = times_of(ledger.read()[0])
    for trial in optuna.load_study(study_name=config.name, storage=open_storage(config.folder)).trials:
        span = times[trial.user_attrs["trial_id"]]
        assert (trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()) == pytest.approx(span, abs=1e-3)
    tell_replicates(config, [replicate], BASE)
    assert len(optuna.load_study(study_name=config.name, storage=open_storage(config.folder)).trials) == 7


def test_the_study_tells_what_the_leaderboard_tells_and_keeps_the_rest(config, ledger):
    search, specs = search_of(config, ledger)
    for tune_id in "ab":
        search.suggest(tune_id)
    end(search, ledger, specs[0], "a", "complete", [1.5, 2.0])
    end(search, ledger, specs[1], "b", "complete", [1.9, 1.8])
    search.close()
    rows = [
        {"rank": 1, "trial_id": "t0001", "step": 8, "objective": 1.5, "replicates": []},
        {"rank": 2, "trial_id": "t0002", "step": 16, "objective": 1.8, "replicates": []},
        {"rank": None, "trial_id": "t0003", "step": None, "objective": None, "replicates": []},
    ]
    board = {"winner": {"trial_id": "t0001", "step": 8}, "rows": rows}
    before = optuna.load_study(study_name=config.name, storage=open_storage(config.folder)).trials
    for _ in range(2):
        mark_study(config.folder, board)
        study = optuna.load_study(study_name=None, storage=open_storage(config.folder))
        assert study.user_attrs == {"winner": {"trial_id": "t0001", "step": 8, "objective": 1.5}}
        assert study.best_trial.user_attrs["trial_id"] == "t0002", "Optuna goes by the last checkpoints"
        marks = [{name: trial.user_attrs.get(name) for name in MARKS} for trial in study.trials]
        assert [tuple(mark.values()) for mark in marks] == [(1, 8, 1.5), (2, 16, 1.8)]
        for old, new in zip(before, study.trials, strict=True):
            for name in ("state", "value", "params", "intermediate_values", "datetime_start", "datetime_complete"):
                assert getattr(old, name) == getattr(new, name)
    mark_study(config.folder, {"winner": None, "rows": []})
    study = optuna.load_study(study_name=None, storage=open_storage(config.folder))
    assert (study.user_attrs["winner"], "rank" in study.trials[0].user_attrs) == (None, False)


@pytest.mark.usefixtures("ledger")
def test_warm_start_trials_come_from_the_ledger_and_only_the_last_readings(config):
    told = {"value": 2.2, "params": {"peak_lr": 1e-4, "warmup_fraction": 0.05}, "points": {8: 2.4}}
    for value in (9.9, 2.2):
        new = Ledger.of_new_driver(config.folder)
        attrs = {"trial_id": "first/t0001", "warm_start": "outputs/first"}
        new.append("warm_start", folder="outputs/first", told=[{**told, "value": value, "attrs": attrs}])
    rebuild(config.folder)
    assert as_told(config).keys() == {"first/t0001"}
    state, value, params, _, points, _ = as_told(config)["first/t0001"]
    assert (state, value, params, points) == (TrialState.COMPLETE, 2.2, told["params"], {8: 2.4})


def test_files_come_back_and_a_trial_stands_in_them_once(config, ledger):
    spec = TrialSpec(trial_id="t0001", seed=0, params=POINT)
    ledger.append("trial_ended", trial=record(spec, "failed", error="ünlucky"))
    ledger.append("trial_ended", trial=record(spec, "complete", [2.0]))
    (config.folder / "trials.jsonl").write_text('{"trial_id": "t0001", "sta')
    rebuild(config.folder)
    (line,) = (config.folder / "trials.jsonl").read_text().splitlines()
    assert json.loads(line) == record(spec, "complete", [2.0])
    assert json.loads((config.folder / "baseline.json").read_text())["areas"] == AREAS
    assert load_config(config.folder / "sweep.yaml") == config


@pytest.mark.usefixtures("ledger")
def test_a_folder_that_was_moved_is_rebuilt_under_its_new_name(config, tmp_path):
    moved = tmp_path / "elsewhere"
    config.folder.rename(moved)
    rebuild(moved)
    assert load_config(moved / "sweep.yaml").folder == moved


def test_the_next_id_is_above_all_that_the_ledger_still_knows(ledger):
    specs = [TrialSpec(trial_id=f"t{number:04d}", seed=0, params=POINT) for number in (1, 2, 3)]
    for spec in specs:
        ledger.append("trial_submitted", spec=spec.model_dump())
    ledger.append("trial_ended", trial=record(specs[2], "complete", [2.0]))
    lines = ledger.path.read_text().splitlines()
    torn = [line for line in lines if '"t0002"' not in line and not ('"t0003"' in line and "submitted" in line)]
    ledger.path.write_text("\n".join(torn) + "\n")
    past = past_of(ledger.read()[0])
    assert past.submitted == 3  # the id t0003 is taken, though only its end is known
    assert [spec.trial_id for spec in past.unfinished] == ["t0001"]


def test_a_ledger_without_a_config_and_a_folder_without_a_ledger_are_refused_in_one_line(config, tmp_path, capsys):
    ledger = Ledger(config.folder)
    for event in ("sweep_ended", "baseline"):
        ledger.append(event, areas=AREAS)
        with pytest.raises(UserError, match="must hold the sweep's config"):
            rebuild(config.folder)
    assert main([str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}: must be the folder of a sweep")
    assert len(err.splitlines()) == 1


def test_ended_trials_keep_the_order_in_which_they_first_ended():
    events = [{"event": "trial_ended", "trial": {"trial_id": i, "n": n}} for n, i in enumerate("aba")]
    assert ended_trials(events) == [{"trial_id": "a", "n": 2}, {"trial_id": "b", "n": 1}]


@pytest.mark.usefixtures("ledger")
def test_a_folder_that_lacks_a_file_is_not_resumed_and_what_helps_is_said(config):
    with pytest.raises(UserError, match=r"without sweep.yaml; make it anew: python -m sweeps.rebuild"):
        resumed_config(config.folder, None, [])
    rebuild(config.folder)
    assert resumed_config(config.folder, None, ["search.trials=99"]).search.trials == 99
    (config.folder / "ledger.jsonl").unlink()
    with pytest.raises(UserError, match=r"--resume: must name the folder of a sweep, got .* without plan.json; check"):
        resumed_config(config.folder, None, [])


def test_a_driver_starts_from_the_ledgers_files_not_from_those_that_it_finds(config, ledger):
    spec = TrialSpec(trial_id="t0001", seed=0, params=POINT)
    ledger.append("trial_submitted", spec=spec.model_dump())
    ledger.append("trial_ended", trial=record(spec, "failed", error="the cause"))
    (config.folder / "baseline.json").write_text('{"areas": {"home": {"nll": 0.1}}}')
    (config.folder / "trials.jsonl").write_text('{"trial_id": "t0009", "state": "complete"}\n')
    past = recover(config, SweepStore.of_driver(str(config.folder)), ledger, Console())
    assert json.loads((config.folder / "baseline.json").read_text())["areas"] == AREAS
    assert [json.loads(line)["trial_id"] for line in (config.folder / "trials.jsonl").open()] == ["t0001"]
    assert ([one.trial_id for one in past.unfinished], past.ended, past.failed) == (["t0001"], [], {"t0001": 1})
