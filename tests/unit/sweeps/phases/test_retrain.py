"""The winner's retraining: when it is done, with what, and who is told nothing of it."""

from types import SimpleNamespace

import pytest

from sweeps.config.sweep_config import SweepConfig
from sweeps.driver.checkpoint_cleanup import CheckpointCleaner
from sweeps.phases.retrain import retrain_winner
from sweeps.search.tell import as_trials
from trainables.errors import UserErrors

POINT = {"peak_lr": 3e-4, "warmup_fraction": 0.05, "decay_floor": 4e-5}
ORIGIN = {
    "trial_id": "t0002", "kind": "search", "replicate_of": None, "state": "complete", "seed": 7, "params": POINT,
    "drawn": None, "steps": 40, "checkpoints": [{"step": 40, "path": "x", "areas": {"home": {"nll": 2.0}}}],
}  # fmt: skip
AGAIN = {
    **ORIGIN, "trial_id": "t0002-retrained", "kind": "retrain", "replicate_of": "t0002",
    "checkpoints": [{"step": 30, "path": "y", "areas": {}}, {"step": 60, "path": "z", "areas": {}}],
}  # fmt: skip
SEALED = "heldout.areas.sealed={path: held.jsonl, role: sealed}"


@pytest.mark.parametrize(
    ("retrain", "winner", "ended", "kept_at"),
    [
        (True, {"trial_id": "t0002", "step": 20}, [], 0.5),
        (True, {"trial_id": "t0002", "step": 40}, [], 1.0),
        (True, {"trial_id": "t0002", "step": 40}, [AGAIN], None),  # a resumed sweep
        (True, None, [], None),
        (False, {"trial_id": "t0002", "step": 20}, [], None),
    ],
)
def test_the_winners_setting_is_trained_once_more(load, monkeypatch, retrain, winner, ended, kept_at):
    monkeypatch.setattr("sweeps.phases.retrain.leaderboard", lambda _: {"winner": winner})
    config = load(SEALED, f"winner.retrain={str(retrain).lower()}")
    sweep = SimpleNamespace(config=config, past=SimpleNamespace(ended=[ORIGIN, *ended]))
    trained = []
    supervisor = SimpleNamespace(
        recorder=SimpleNamespace(records={}),
        say=lambda _: None,
        train=lambda specs, baseline, keep_at: trained.append((*specs, keep_at)),
    )
    retrain_winner(sweep, supervisor, {})
    if kept_at is None:
        assert trained == []
        return
    ((spec, at),) = trained
    assert (spec.trial_id, spec.kind, spec.replicate_of) == ("t0002-retrained", "retrain", "t0002")
    assert (spec.seed, spec.params, spec.fraction, at) == (7, POINT, 1.0, kept_at)


def test_it_is_refused_without_an_area_that_could_judge_it(load):
    with pytest.raises(UserErrors, match=r"winner\.retrain: needs a sealed area: all others are trained on, got none"):
        load("winner.retrain=true")


def test_it_is_off_and_neither_optuna_nor_retention_counts_it(load):
    assert SweepConfig.model_fields["winner"].default.retrain is False
    assert [trial.user_attrs["trial_id"] for trial in as_trials([ORIGIN, AGAIN], load(), 3.0)] == ["t0002"]
    store = SimpleNamespace(keep_checkpoints=lambda name, steps: None)
    cleaner = CheckpointCleaner(store, SimpleNamespace(append=lambda *_, **__: None), 1, {"home": 1.0}, [ORIGIN])
    assert [point["kept"] for point in cleaner.judge(AGAIN)["checkpoints"]] == [True, True]
