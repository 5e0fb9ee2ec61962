"""The exported config repeats one trial; the card's license is what the base model's folder says."""

import pytest

from analysis.export.checkpoint_choice import BaseModel, choose
from analysis.export.model_card import license, schedule_plot
from analysis.export.reproduce import reproducing_config
from analysis.rank.leaderboard import leaderboard
from analysis.records.sweep import read_sweep
from sweeps.config.sweep_config import load_config
from tests.unit.analysis.synthetic_sweep import write_synthetic_sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_synthetic_sweep(tmp_path_factory.mktemp("reproduce"), 4)


def test_the_config_is_valid_and_fixes_what_the_trial_used(folder, tmp_path):
    sweep, board = read_sweep(folder), leaderboard(folder)
    chosen = choose(board, "t0002", None)
    path = tmp_path / "reproduce.yaml"
    path.write_text(reproducing_config(sweep, chosen))
    config = load_config(path)
    assert config.space.ends() == {name: (value, value) for name, value in chosen.row["params"].items()}
    assert (config.seed, config.search.trials, config.confirm.budget) == (0, 1, 0)
    before = load_config(folder / "sweep.yaml")
    assert (config.data, config.heldout, config.training) == (before.data, before.heldout, before.training)


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
