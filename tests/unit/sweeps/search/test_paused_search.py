"""The search of a sweep whose trials pause: what it proposes when, and what Optuna is told."""

import math

import optuna
import pytest
from ray.tune.search import Searcher

from sweeps.ledger.history import Past
from sweeps.search.optuna_search import Beginning, Launch, SweepSearch
from sweeps.search.paused_trials import PausedTrials
from sweeps.search.study import open_storage

BASE = 3.0
# Peak LRs that lie apart, so that the scores alone decide who goes on.
POINTS = [
    {"peak_lr": lr, "warmup_fraction": 0.05, "decay_floor": 4e-5} for lr in (6e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4)
]


@pytest.fixture
def config(load):
    config = load("search.sampler=random", "search.trials=6")
    config.folder.mkdir()
    return config


@pytest.fixture
def submitted():
    return []


@pytest.fixture
def chosen():
    return []


@pytest.fixture
def search(config, submitted, chosen):
    launch = Launch({}, submitted.append, on_chosen=lambda *both: chosen.append(both))
    return SweepSearch(config, BASE, launch, Beginning(points=POINTS))


def end(search, name, state, objective, at=1.0):
    search.on_trial_result(name, {"state": "running", "objective": objective, "step": round(20 * at), "fraction": at})
    search.on_trial_complete(name, {"state": state, "objective": objective, "step": round(20 * at)})


def told(config):
    study = optuna.load_study(study_name=config.name, storage=open_storage(config.folder))
    return [(t.user_attrs["trial_id"], t.state.name, t.value, t.user_attrs.get("paused", False)) for t in study.trials]


def test_all_pause_but_the_first_then_the_best_go_on_and_the_search_ends(config, search, submitted, chosen):
    first = search.suggest("a")
    assert (first["job_id"], first["pause_at"]) == ("t0001", None)
    others = [search.suggest(name) for name in "bcdef"]
    assert [other["pause_at"] for other in others] == [0.25] * 5
    assert [spec.seed for spec in submitted] == [config.seed + n for n in (0, 1, 2, 3, 0, 1)]
    end(search, "b", "paused", 1.6, at=0.25)
    assert told(config)[1] == ("t0002", "RUNNING", None, False)  # the first trial runs: its fall is not known
    assert search.suggest("g") is None
    search.on_trial_result("a", {"state": "running", "objective": 1.7, "step": 5, "fraction": 0.25})
    end(search, "a", "complete", 1.3)
    assert told(config)[1] == ("t0002", "COMPLETE", pytest.approx(1.2), True)
    end(search, "c", "paused", 1.5, at=0.25)
    end(search, "d", "paused", 1.9, at=0.25)
    end(search, "e", "diverged", math.nan, at=0.1)
    assert search.suggest("g") is None  # the last might be among the best
    end(search, "f", "paused", 1.8, at=0.25)
    going = [search.suggest(name) for name in "ghi"]
    assert chosen == [(["t0003", "t0002", "t0006"], {"t0004": pytest.approx(1.5)})]
    assert [(one["job_id"], one["pause_at"]) for one in going] == [
        ("t0003+rest", None),
        ("t0002+rest", None),
        ("t0006+rest", None),
    ]
    assert search.suggest("j") == Searcher.FINISHED
    assert len(submitted) == 6
    end(search, "g", "complete", 1.1)
    assert told(config)[6] == ("t0003", "COMPLETE", pytest.approx(1.1), False)


def test_with_a_lane_for_each_the_search_waits_for_first_parts_before_any_has_paused(search, chosen):
    for name in "abcdef":
        search.suggest(name)
    end(search, "f", "diverged", math.nan, at=0.1)
    assert search.suggest("g") is None, "the others may pause yet"
    for name, score in zip("bcde", (1.6, 1.5, 1.9, 1.7), strict=True):
        end(search, name, "paused", score, at=0.25)
    assert search.suggest("g") is None, "the first runs"
    end(search, "a", "complete", 1.3)
    assert [search.suggest(name)["job_id"] for name in "ghi"] == ["t0003+rest", "t0002+rest", "t0005+rest"]
    assert len(chosen) == 1


def test_a_pause_without_a_finite_score_counts_as_the_worst_and_does_not_go_on(config, search, chosen):
    for name in "abcdef":
        search.suggest(name)
    end(search, "a", "complete", 1.3)
    for name in "bcdef":
        search.on_trial_complete(name, {"state": "paused", "objective": math.nan, "step": 5})
    assert told(config)[1:] == [(f"t000{n}", "COMPLETE", 1.3, True) for n in range(2, 7)]
    assert search.suggest("g") == Searcher.FINISHED
    ((going, others),) = chosen
    assert going == []
    assert all(math.isnan(predicted) for predicted in others.values())


def test_an_error_while_a_trial_is_submitted_is_not_hidden_when_the_search_closes(config):
    def full(_spec):
        raise OSError("the disk is full")

    search = SweepSearch(config, BASE, Launch({}, full))
    with pytest.raises(OSError, match="the disk is full"):
        search.suggest("a")
    search.close()
    study = optuna.load_study(study_name=config.name, storage=open_storage(config.folder))
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


def test_a_budget_for_fewer_trials_still_lets_the_best_go_on(config, submitted, chosen):
    asked = []

    def affordable(epochs):
        asked.append(epochs)
        return len(asked) <= 3  # for the fourth trial no more

    launch = Launch({}, submitted.append, affordable=affordable, on_chosen=lambda *both: chosen.append(both))
    search = SweepSearch(config, BASE, launch)
    for name, score in zip("abc", (1.3, 1.6, 1.5), strict=True):
        search.suggest(name)
        end(search, name, "paused" if name != "a" else "complete", score, at=1.0 if name == "a" else 0.25)
    assert [search.suggest(name)["job_id"] for name in "de"] == ["t0003+rest", "t0002+rest"]
    assert asked[:4] == [0.25 + 0.75 * 1, 0.25 + 0.75 * 1, 0.25 + 0.75 * 2, 0.25 + 0.75 * 3]
    assert search.suggest("f") == Searcher.FINISHED


def test_a_resumed_search_proposes_what_is_left(config, submitted, chosen):
    def record(number, state, *objectives):
        points = [
            {"step": step, "path": "p", "areas": {"home": {"nll": value}}}
            for step, value in zip((5, 20), objectives, strict=False)
        ]
        params = {"peak_lr": 1e-4, "warmup_fraction": 0.05, "decay_floor": 4e-5}
        spec = {"trial_id": f"t{number:04d}", "seed": 0, "kind": "search", "params": params, "drawn": None}
        return {**spec, "state": state, "steps": 20, "steps_planned": 20, "checkpoints": points}

    paused = {f"t{n:04d}": record(n, "paused", 1.0 + n / 10) for n in (2, 3, 4, 5)}
    past = Past(ended=[record(1, "complete", 1.5, 1.2)], paused=paused, going_on=("t0003",), submitted=5)
    trials = PausedTrials.of_past(past, config.heldout.weights)
    assert trials.falls == {"t0001": pytest.approx(0.3)}
    assert [one["predicted"] for one in trials.with_predictions([paused["t0002"]])] == [pytest.approx(0.9)]
    launch = Launch({}, submitted.append, on_chosen=lambda *both: chosen.append(both))
    search = SweepSearch(config, BASE, launch, Beginning(submitted=5, left=1, paused=trials))
    new = search.suggest("a")
    assert (new["job_id"], new["pause_at"], submitted[0].seed) == ("t0006", 0.25, config.seed + 1)
    end(search, "a", "paused", 1.05, at=0.25)
    assert [search.suggest(name)["job_id"] for name in "bcd"] == ["t0003+rest", "t0006+rest", "t0002+rest"]
    assert [both[0] for both in chosen] == [["t0006", "t0002"]]
    assert search.suggest("e") == Searcher.FINISHED


@pytest.mark.parametrize("overrides", [["search.trial_scheduler=evidence"], ["search.trials=5"]])
def test_without_pauses_every_trial_is_trained_to_the_end(load, overrides):
    config = load("search.sampler=random", "search.trials=6", *overrides)
    config.folder.mkdir()
    search = SweepSearch(config, BASE, Launch({}, lambda spec: None))
    found = [search.suggest(str(number)) for number in range(config.search.trials)]
    assert {one["pause_at"] for one in found} == {None}
    assert search.suggest("last") == Searcher.FINISHED
