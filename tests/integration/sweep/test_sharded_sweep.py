"""A sweep of full fine-tunes whose weights are shared out over two workers, killed and resumed, and then exported."""

import json
import signal
import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM

from tests.integration.conftest import HUNG_SECONDS, ROOT, command, environment, run_sweep
from tests.integration.sweep.test_driver_killed import lines, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * HUNG_SECONDS)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The folder of a sweep whose driver was killed in its second trial, after a state, and then resumed."""
    storage = tmp_path_factory.mktemp("sharded")
    arguments = [
        *("conf/smoke.yaml", f"storage_path={storage}", "data.limit=48", "search.trials=3", "model.method=full"),
        *("resources.workers_per_lane=2", "training.batch_size=2", "search.trial_scheduler=none"),
    ]
    process = subprocess.Popen(
        command(*arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = storage / "smoke"
    state = folder / "trials/t0002/state/rank-1-of-2"
    try:
        wait_for(lambda: any(state.glob("step-*/COMPLETE")), process, HUNG_SECONDS)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = run_sweep("--resume", folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_all_trials_are_complete_and_none_was_done_twice(sweep):
    trials = lines(sweep / "trials.jsonl")
    assert [trial["state"] for trial in trials] == ["complete"] * 3
    assert [trial["went_on_from_step"] for trial in trials] == [None, 6, None]
    for trial in trials:
        curve = lines(sweep / "trials" / trial["trial_id"] / "curve.jsonl")
        assert [step["step"] for step in curve] == list(range(1, trial["steps"] + 1))
        assert sorted(name for step in curve for name in step["ids"]) == sorted(
            name for step in lines(sweep / "trials/t0001/curve.jsonl") for name in step["ids"]
        )


def test_the_winner_is_exported_whole(sweep, tmp_path):
    exported = subprocess.run(
        [sys.executable, "-m", "analysis.export", str(sweep), "--to", str(tmp_path / "model")],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert exported.returncode == 0, exported.stderr + exported.stdout
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert "distributed_config" not in json.loads((tmp_path / "model/config.json").read_text())
