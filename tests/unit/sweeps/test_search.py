"""What Optuna is asked and told, read back from the study's file."""

import math

import optuna
import pytest
import yaml
from optuna.samplers import GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from test_config import SMALL

from sweeps.config import load_config
from sweeps.search import SweepSearch, distributions, fixed_params, make_sampler, open_storage, verdict

BASE = 3.0
POINT = {"peak_lr": 3e-4, "warmup_fraction": 0.05, "decay_floor": 4e-5}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    config = load_config(path, [f"storage_path={tmp_path}", "search.sampler=random"])
    config.folder.mkdir()
    return config


@pytest.fixture
def submitted():
    return []


@pytest.fixture
def search(config, submitted):
    return SweepSearch(config, [POINT], BASE, {"lanes": "x"}, submitted.append)


def result(state, objective=math.nan, step=10):
    return {"state": state, "objective": objective, "step": step}


def study(config):
    return optuna.load_study(study_name=config.name, storage=open_storage(config.folder))


@pytest.mark.parametrize(
    ("last", "error", "told"),
    [
        (result("complete", 1.5), False, (TrialState.COMPLETE, 1.5)),
        (result("complete", math.nan), False, (TrialState.FAIL, None)),
        (result("diverged", math.nan), False, (TrialState.COMPLETE, BASE)),
        (result("diverged", 9.0), False, (TrialState.COMPLETE, BASE)),
        (result("running", 1.2), False, (TrialState.PRUNED, None)),
        (result("pruned", 1.2), False, (TrialState.PRUNED, None)),
        (result("interrupted", 1.2), False, (TrialState.FAIL, None)),
        (result("failed", 1.2), False, (TrialState.FAIL, None)),
        (result("running", 1.2), True, (TrialState.FAIL, None)),
        (None, False, (TrialState.FAIL, None)),
        (None, True, (TrialState.FAIL, None)),
    ],
)
def test_what_an_end_means_to_optuna(last, error, told):
    assert verdict(last, error, BASE) == told


def test_the_study_file_after_one_trial_of_each_end(config, search):
    for name in "cdpfo":
        search.suggest(name)
    search.on_trial_result("c", result("running", 2.0, step=5))
    search.on_trial_complete("c", result("complete", 1.5))
    search.on_trial_complete("d", result("diverged", 7.5))
    search.on_trial_result("p", result("running", 2.5, step=5))
    search.on_trial_complete("p", result("running", 2.5, step=5))
    search.on_trial_complete("f", error=True)
    search.close()

    by_id = {trial.user_attrs["trial_id"]: trial for trial in study(config).trials}
    states = [by_id[f"t{number:04d}"].state.name for number in range(1, 6)]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL", "FAIL"]
    assert by_id["t0001"].value == 1.5
    assert by_id["t0001"].intermediate_values == {5: 2.0}
    assert by_id["t0002"].value == BASE
    assert by_id["t0002"].user_attrs["diverged_objective"] == "7.5"
    assert by_id["t0003"].intermediate_values == {5: 2.5}


def test_a_trial_is_told_once(config, search):
    search.suggest("a")
    search.on_trial_complete("a", result("complete", 1.5))
    search.on_trial_complete("a", result("complete", 0.1))
    search.on_trial_result("a", result("running", 0.1))
    assert study(config).trials[0].value == 1.5


def test_the_recommended_point_comes_first_and_fixed_values_are_kept(search, submitted):
    first, second = search.suggest("a")["spec"], search.suggest("b")["spec"]
    assert first["params"] == pytest.approx(POINT)
    assert second["params"]["peak_lr"] != first["params"]["peak_lr"]
    assert second["params"]["decay_floor"] == 4e-5
    assert [spec.trial_id for spec in submitted] == ["t0001", "t0002"]


def test_a_floor_near_the_peak_is_lowered_and_both_values_are_said(config, submitted):
    low = {"peak_lr": 5e-5, "warmup_fraction": 0.05, "decay_floor": 4.5e-5}
    config = load_from(config, ["space.decay_floor={low: 4e-5, high: 5e-5}"])
    spec = SweepSearch(config, [low], BASE, {}, submitted.append).suggest("a")["spec"]
    assert spec["params"]["decay_floor"] == pytest.approx(4e-5)
    assert spec["drawn"] == {"decay_floor": pytest.approx(4.5e-5)}


def test_a_space_without_ranges_is_one_point(config, submitted):
    config = load_from(config, ["space.peak_lr=1e-4", "space.warmup_fraction=0.05"])
    assert distributions(config) == {}
    search = SweepSearch(config, [], BASE, {}, submitted.append)
    assert search.suggest("a")["spec"]["params"] == fixed_params(config)
    search.on_trial_complete("a", result("complete", 1.5))
    assert study(config).trials[0].value == 1.5


def test_after_a_restart_other_points_are_proposed_and_seed_points_are_not_repeated(config, submitted):
    first = SweepSearch(config, [POINT], BASE, {}, submitted.append)
    before = [first.suggest(name)["spec"]["params"] for name in "abc"]
    first.close()
    again = SweepSearch(config, [POINT], BASE, {}, submitted.append, submitted=3)
    after = [again.suggest(name)["spec"] for name in "abc"]
    assert [spec["trial_id"] for spec in after] == ["t0004", "t0005", "t0006"]
    assert not [spec for spec in after if spec["params"] in before]


@pytest.mark.parametrize(
    ("name", "kind"), [("gp", GPSampler), ("tpe", TPESampler), ("random", RandomSampler), ("qmc", QMCSampler)]
)
def test_samplers_by_name(config, name, kind):
    assert isinstance(make_sampler(load_from(config, [f"search.sampler={name}"]), 0), kind)


def load_from(config, overrides):
    return load_config(
        config.folder.parent / "small.yaml",
        [f"storage_path={config.folder.parent}", "search.sampler=random", *overrides],
    )
