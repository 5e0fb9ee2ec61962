"""What a sweep prints when it has ended can be pasted, whatever its folder is called."""

import io
import shlex

import pytest
from rich.console import Console

from sweeps.folder.sweep_store import SweepStore
from sweeps.phases.finish import ENDS, finish


@pytest.mark.parametrize("folder", ["plain", "räum [v2] k=1", "a [/b]  c", "it's $HOME"])
@pytest.mark.parametrize(("state", "code"), [("failed", 3), ("interrupted", 130), ("budget_spent", 3)])
def test_the_way_to_go_on_is_a_command_for_the_shell(load, tmp_path, folder, state, code):
    (tmp_path / folder).mkdir(parents=True)
    config = load("wandb=off").model_copy(update={"storage_path": str(tmp_path / folder)})
    shown = io.StringIO()
    console = Console(file=shown, soft_wrap=True, markup=False, emoji=False, highlight=False)
    assert finish(config, SweepStore.of_driver(config.place), state, 0.5, console) == code
    lines = shown.getvalue().splitlines()
    assert f"{ENDS[state]}. Results: {tmp_path / folder}/small" in lines
    words = shlex.split(lines[-1].partition(": ")[2] if state != "budget_spent" else lines[-1].partition("go on: ")[2])
    assert words[:5] == ["python", "-m", "sweeps.run", "--resume", f"{tmp_path / folder}/small"]
