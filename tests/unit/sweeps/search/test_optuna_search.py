"""The search's trials and what the study's file holds of them, read back with plain Optuna."""

import math

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.search.optuna_search import Beginning, Launch, SweepSearch
from sweeps.search.search_space import distributions, fixed_params
from sweeps.search.study import tell_replicates
from sweeps.search.tell import as_trials
from trainables.storage.layout import STUDY_FILE

BASE = 3.0
POINT = {"peak_lr": 3e-4, "warmup_fraction": 0.05, "decay_floor": 4e-5}


@pytest.fixture
def config(load):
    return load("search.sampler=random")


@pytest.fixture
def submitted():
    return []


@pytest.fixture
def start(submitted):
    """Starts a search that notes what it submits."""

    def search(config, *points, submitted_before=0, room=None):
        config.folder.mkdir(exist_ok=True)
        launch = Launch({"lanes": "x"}, submitted.append, room)
        return SweepSearch(config, BASE, launch, Beginning(points, submitted=submitted_before))

    return search


@pytest.fixture
def search(config, start):
    return start(config, POINT)


def result(state, objective=math.nan, step=10, **more):
    return {"state": state, "objective": objective, "step": step, "fraction": step / 10, **more}


def study(config):
    """The study's file as any user of Optuna opens it."""
    storage = JournalStorage(JournalFileBackend(str(config.folder / STUDY_FILE)))
    return optuna.load_study(study_name=config.name, storage=storage)


def by_id(config):
    return {trial.user_attrs["trial_id"]: trial for trial in study(config).trials}


def test_the_study_file_after_one_trial_of_each_end(config, search):
    for name in "cndpqife":
        search.suggest(name)
    search.on_trial_result("c", result("running", 2.0, step=5))
    search.on_trial_complete("c", result("complete", 1.5))
    search.on_trial_complete("n", result("complete", math.nan))
    search.on_trial_complete("d", result("diverged", 7.5))
    search.on_trial_result("p", result("running", 1.1, step=5))
    search.predictions["t0004"] = 1.9
    search.on_trial_complete("p", result("running", 1.1, step=5))
    search.on_trial_complete("q", result("pruned", 1.2, predicted=1.8))
    search.on_trial_complete("i", result("interrupted", 1.2))
    search.on_trial_complete("f", result("failed", 1.2))
    search.on_trial_complete("e", result("complete", 1.2), error=True)
    trials = by_id(config)
    states = {name: trial.state.name for name, trial in trials.items()}
    assert [states[f"t000{n}"] for n in (1, 3, 4, 5)] == ["COMPLETE"] * 4
    assert [states[f"t000{n}"] for n in (2, 6, 7, 8)] == ["FAIL"] * 4
    values = {name: trial.value for name, trial in trials.items() if trial.value is not None}
    assert values == {"t0001": 1.5, "t0003": BASE, "t0004": 1.9, "t0005": 1.8}
    assert trials["t0001"].intermediate_values == {5: 2.0}
    assert trials["t0003"].user_attrs["diverged_objective"] == "7.5"
    assert [name for name, trial in trials.items() if trial.user_attrs.get("pruned")] == ["t0004", "t0005"]
    assert trials["t0004"].intermediate_values == {5: 1.1}


def test_one_end_of_each_trial_counts_and_closing_leaves_none_running(config, search):
    search.suggest("a")
    search.suggest("b")
    search.on_trial_complete("a", result("complete", 1.5))
    search.on_trial_complete("a", result("complete", 0.1))
    search.on_trial_result("a", result("running", 0.1))
    assert study(config).trials[0].value == 1.5
    assert [trial.state for trial in study(config).trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    search.close()
    assert [trial.state for trial in study(config).trials] == [TrialState.COMPLETE, TrialState.FAIL]


def test_a_pruned_trial_without_prediction_counts_as_the_worst_that_completed(config, search):
    for name in "pabdq":
        search.suggest(name)
    search.on_trial_complete("p", result("running", 0.5))
    search.on_trial_complete("a", result("complete", 1.5))
    search.on_trial_complete("b", result("complete", 1.7))
    search.on_trial_complete("d", result("diverged"))
    search.on_trial_complete("q", result("running", 0.5))
    assert by_id(config)["t0001"].value == BASE
    assert by_id(config)["t0005"].value == 1.7


def test_the_study_of_a_resumed_sweep_says_the_same(config, search, submitted):
    ends = {
        "c": ("complete", 1.5, None),
        "d": ("diverged", 7.5, None),
        "p": ("pruned", 1.2, 1.9),
        "q": ("pruned", 1.2, None),
        "f": ("failed", math.nan, None),
        "n": ("complete", math.nan, None),
    }
    records = []
    for name, (state, value, predicted) in ends.items():
        search.suggest(name)
        points = [] if math.isnan(value) else [record_point(value)]
        for point in points:
            search.on_trial_result(name, result("running", value, step=point["step"]))
        search.on_trial_complete(name, result(state, value, predicted=predicted))
        records.append(record(submitted[-1], state, points, predicted))
    live = by_id(config)
    for trial in as_trials(records, config, BASE):
        before = live[trial.user_attrs["trial_id"]]
        same = ("state", "value", "params", "distributions", "intermediate_values", "user_attrs")
        assert {key: getattr(trial, key) for key in same} == {key: getattr(before, key) for key in same}


def test_replicates_are_repeated_observations(config, search, submitted):
    search.suggest("a")
    search.on_trial_complete("a", result("complete", 1.5))
    search.close()
    again = submitted[0].model_copy(update={"trial_id": "t0001-r1", "kind": "replicate", "replicate_of": "t0001"})
    tell_replicates(config, [record(again, "complete", [record_point(1.6)])], BASE)
    first, second = study(config).trials
    assert (first.value, second.value) == (1.5, 1.6)
    assert first.params == second.params
    assert second.user_attrs == {"trial_id": "t0001-r1", "replicate_of": "t0001"}


def record_point(value):
    return {"step": 5, "path": "p", "areas": {"home": {"nll": value}}}


def record(spec, state, points, predicted=None):
    named = ("trial_id", "kind", "replicate_of", "params", "drawn")
    told = {} if predicted is None else {"predicted": predicted}
    return {**{key: getattr(spec, key) for key in named}, "state": state, "checkpoints": points, **told}


def test_the_recommended_point_comes_first_and_fixed_values_are_kept(search, submitted):
    first, second = (search.suggest(name)["spec"]["params"] for name in "ab")
    assert first == pytest.approx(POINT)
    assert second["peak_lr"] != first["peak_lr"]
    assert second["decay_floor"] == 4e-5
    assert [spec.trial_id for spec in submitted] == ["t0001", "t0002"]


def test_a_floor_near_the_peak_is_lowered_and_both_values_are_said(load, start):
    low = {"peak_lr": 5e-5, "warmup_fraction": 0.05, "decay_floor": 4.5e-5}
    spec = start(load("space.decay_floor={low: 4e-5, high: 5e-5}"), low).suggest("a")["spec"]
    assert spec["params"]["decay_floor"] == pytest.approx(4e-5)
    assert spec["drawn"] == {"decay_floor": pytest.approx(4.5e-5)}


@pytest.mark.parametrize("sampler", ["gp", "random", "grid"])
def test_a_space_without_ranges_is_one_point(load, start, sampler):
    config = load("space.peak_lr=1e-4", "space.warmup_fraction=0.05", f"search.sampler={sampler}")
    assert distributions(config) == {}
    search = start(config)
    assert search.suggest("a")["spec"]["params"] == fixed_params(config)
    search.on_trial_complete("a", result("complete", 1.5))
    assert study(config).trials[0].value == 1.5


def test_after_a_restart_other_points_are_proposed_and_seed_points_are_not_repeated(config, start):
    first = start(config, POINT)
    before = [first.suggest(name)["spec"]["params"] for name in "abc"]
    first.close()
    again = start(config, POINT, submitted_before=3)
    after = [again.suggest(name)["spec"] for name in "abc"]
    assert [spec["trial_id"] for spec in after] == ["t0004", "t0005", "t0006"]
    assert not [spec for spec in after if spec["params"] in before]


def test_nothing_is_proposed_while_every_slot_has_a_trial_but_never_with_nothing_running(config, start, submitted):
    slots = [2]
    search = start(config, room=lambda: slots[0])
    assert [search.suggest(name) is not None for name in "abc"] == [True, True, False]
    search.on_trial_complete("a", result("complete", 2.0))
    assert search.suggest("d") is not None
    assert search.suggest("e") is None
    slots[0] = 3  # a node has joined
    assert search.suggest("f") is not None
    slots[0] = 0  # all nodes are gone
    for name in "bdf":
        assert search.suggest("g") is None
        search.on_trial_complete(name, result("complete", 2.0))
    assert search.suggest("h") is not None
    assert [spec.trial_id for spec in submitted] == ["t0001", "t0002", "t0003", "t0004", "t0005"]
    assert len(search.study.trials) == 5, "what is not proposed is not in the study"
