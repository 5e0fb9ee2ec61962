"""An export's parts: which checkpoint is meant, a config that repeats its trial, and the base model's license."""

import re

import pytest

from analysis.export.__main__ import main
from analysis.export.checkpoint_choice import BaseModel, choose
from analysis.export.export import _free
from analysis.export.model_card import license, schedule_plot
from analysis.export.reproduce import reproducing_config
from analysis.rank.leaderboard import leaderboard
from analysis.records.sweep import Trial, read_sweep
from sweeps.config.sweep_config import load_config
from tests.unit.analysis.synthetic_sweep import write_synthetic_sweep
from trainables.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_synthetic_sweep(tmp_path_factory.mktemp("reproduce"), 4)


def test_the_config_is_valid_and_fixes_what_the_trial_used(folder, tmp_path):
    sweep, board = read_sweep(folder), leaderboard(folder)
    chosen = choose(board, "t0002", None, [])
    path = tmp_path / "reproduce.yaml"
    path.write_text(reproducing_config(sweep, chosen))
    config = load_config(path)
    assert config.space.ends() == {name: (value, value) for name, value in chosen.row["params"].items()}
    assert (config.seed, config.search.trials, config.confirm.budget) == (0, 1, 0)
    before = load_config(folder / "sweep.yaml")
    assert (config.data, config.heldout, config.training) == (before.data, before.heldout, before.training)


def test_a_range_that_did_nothing_in_the_trial_is_left_out(folder, tmp_path):
    sweep, chosen = read_sweep(folder), choose(leaderboard(folder), "t0002", None, [])
    sweep.config["space"] |= {
        "schedule_shape": {"choices": ["linear", "wsd"]},
        "decay_fraction": {"low": 0.1, "high": 0.5},
        "target_modules": {"choices": ["all-linear", ["q_proj", "v_proj"]]},
    }
    chosen.row["params"] |= {"schedule_shape": "linear", "target_modules": "q_proj,v_proj"}
    path = tmp_path / "reproduce.yaml"
    path.write_text(reproducing_config(sweep, chosen))
    space = load_config(path).space
    assert space.choices() == {"schedule_shape": ("linear",), "target_modules": ("q_proj,v_proj",)}
    assert "decay_fraction" not in space.items()


def test_the_schedule_is_drawn_from_the_steps_that_were_taken(folder):
    lines = schedule_plot(read_sweep(folder), "t0001").splitlines()
    assert lines[0].startswith(" 3.0e-04 │")
    assert lines[-1].endswith("1 … 26")
    assert schedule_plot(read_sweep(folder), "none") == ""


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("README.md", "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model", "by its model card: `apache-2.0`"),
        ("README.md", "# license: mit", "names none"),
        ("LICENSE", "MIT", "see its LICENSE"),
        ("notes.txt", "", "names none"),
    ],
)
def test_the_licence_is_what_the_base_models_folder_says(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    assert said in license(BaseModel(tmp_path, "x", None, False))


def row(name, step=8, replicates=()):
    return {
        "trial_id": name,
        "step": step,
        "state": "complete",
        "checkpoints": [{"step": 4}, {"step": step}],
        "replicates": list(replicates),
    }


BOARD = {
    "name": "s",
    "winner": {"trial_id": "t1-s1", "step": 8},
    "rows": [row("t1", replicates=[row("t1-s1")]), row("t2")],
}


@pytest.mark.parametrize(
    ("asked", "found"),
    [((None, None), ("t1-s1", 8)), (("t1-s1", 4), ("t1-s1", 4)), (("t1", None), ("t1", 8)), (("t2", 4), ("t2", 4))],
)
def test_replicates_can_be_chosen_as_well_as_trials_of_the_search(asked, found):
    chosen = choose(BOARD, *asked, [])
    assert (chosen.trial_id, chosen.step) == found


def test_a_name_that_is_neither_is_refused():
    with pytest.raises(UserError, match="must be a trial of this sweep, got t1-s9; did you mean t1-s1"):
        choose(BOARD, "t1-s9", None, [])


def test_a_link_to_an_empty_folder_is_followed_and_a_url_is_refused(tmp_path, capsys):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert _free(tmp_path / "link") == tmp_path / "real"
    assert main([str(tmp_path), "--to", "s3://bucket/x"]) == 2
    assert "error: --to: must be a path of this machine, got s3://bucket/x" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trial", "remedy"),
    [
        ("t1", "one of 5, 10"),  # a sweep of a version that did not write what it kept
        ("t2", "one of 10"),
        ("t3", "none of t3 is kept; kept are --trial t1 --step 5, --trial t1 --step 10, --trial t2 --step 10"),
    ],
)
def test_a_step_is_answered_with_those_that_can_be_had(trial, remedy):
    points = {
        "t1": [{"step": 5}, {"step": 10}],
        "t2": [{"step": 5, "kept": False}, {"step": 10, "kept": True}],
        "t3": [{"step": 5, "kept": False}],
    }
    trials = [Trial(name, "pruned", checkpoints=checkpoints) for name, checkpoints in points.items()]
    rows = [{"trial_id": t.trial_id, "replicates": [], "step": None, "checkpoints": t.checkpoints} for t in trials]
    board = {"rows": [{**row, "state": "pruned"} for row in rows], "winner": None, "retrained": None}
    for step in (None, 7):
        with pytest.raises(UserError, match=f"; {re.escape(remedy)}$"):
            choose(board, trial, step, trials)
