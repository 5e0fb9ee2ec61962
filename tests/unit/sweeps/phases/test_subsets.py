"""Trials on parts of the training set: what they are, what they cost, and who is told nothing of them."""

from types import SimpleNamespace

import pytest

from analysis.rank.subset_trials import HALF, QUARTER
from sweeps.config.sections import SUBSET_FRACTIONS
from sweeps.phases.subsets import subset_specs, train_on_subsets
from sweeps.search.tell import as_trials

POINT = {"peak_lr": 3e-4, "warmup_fraction": 0.05, "decay_floor": 4e-5}
ORIGIN = {"trial_id": "t0002", "kind": "search", "state": "complete", "seed": 7, "params": POINT, "drawn": None}


def test_they_are_asked_for_cost_three_quarters_of_a_trial_and_have_its_setting_and_seed(load):
    assert load().more_data.trials == 0.0
    assert load("more_data.subsets=true").more_data.trials == 0.75
    assert SUBSET_FRACTIONS == (QUARTER, HALF), "what is trained is what is read"
    quarter, half = subset_specs(ORIGIN)
    assert (quarter.trial_id, half.trial_id) == ("t0002-part25", "t0002-part50")
    assert (quarter.fraction, half.fraction) == (0.25, 0.5)
    for spec in (quarter, half):
        assert (spec.kind, spec.replicate_of, spec.seed, spec.params) == ("subset", "t0002", 7, POINT)


@pytest.mark.parametrize(
    ("subsets", "winner", "ended", "trained"),
    [
        (True, "t0002", [], ["t0002-part25", "t0002-part50"]),
        (True, "t0002", ["t0002-part25"], ["t0002-part50"]),
        (True, "t0002", ["t0002-part25", "t0002-part50"], []),
        (True, None, [], []),
        (False, "t0002", [], []),
    ],
)
def test_what_is_missing_is_trained_once(load, monkeypatch, subsets, winner, ended, trained):
    monkeypatch.setattr("sweeps.phases.subsets.leaderboard", lambda _: {"winner_setting": winner})
    done = []
    past = SimpleNamespace(ended=[ORIGIN, *({**ORIGIN, "trial_id": name, "kind": "subset"} for name in ended)])
    sweep = SimpleNamespace(config=load(f"more_data.subsets={str(subsets).lower()}"), past=past)
    supervisor = SimpleNamespace(
        recorder=SimpleNamespace(records={}), say=lambda _: None, train=lambda specs, _: done.extend(specs)
    )
    train_on_subsets(sweep, supervisor, {})
    assert [spec.trial_id for spec in done] == trained


def test_they_do_not_reach_optuna(load):
    checkpoint = {"step": 4, "path": "x", "areas": {"home": {"nll": 2.0}}}
    records = [{**ORIGIN, "checkpoints": [checkpoint]}]
    records += [{**records[0], "trial_id": "t0002-part25", "kind": "subset", "replicate_of": "t0002"}]
    assert [trial.user_attrs["trial_id"] for trial in as_trials(records, load(), 3.0)] == ["t0002"]
