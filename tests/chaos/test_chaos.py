"""Five kills in one sweep on two nodes, one of each kind of process; `make chaos` has sixty and more."""

import subprocess
import sys

import pytest

from tests.integration.conftest import ROOT, environment

SEED = 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sweep_of_which_everything_is_killed_once_is_that_of_one_left_alone(tmp_path):
    command = [sys.executable, "-m", "tests.chaos", "--five", f"--seed={SEED}", f"--to={tmp_path}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=390, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "5 kills: 0 lost, 0 doubled, 0 mixed, 0 corrupt, 0 differs, 0 left, 0 missed" in said
