"""What a GPU would have seen of real trials: no wait in a step, no pageable copy, one attention kernel a layer."""

import json
import os
import subprocess
import sys

import pytest

from tests.unit.trainables.fake_gpu import library

LOADING = "trainables/models/base_model.py"
SCORING = "trainables/evaluation/heldout.py", "trainables/evaluation/base_loss_scoring.py"
# Where a lane may wait: a load, the curve's report, an area's scores, a snapshot on its way to the disk.
MAY_WAIT = (LOADING, "trainables/training/curve_recorder.py", "trainables/checkpoints/host_snapshots.py", *SCORING)
FLAT = ("lora, dropout", "lora, recomputing, in chunks", "lora, alone", "full", "full, recomputing, in chunks")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each scenario saw, from one process of its own."""
    if reason := library.obstacle():
        if os.environ.get("CI_HAS_FAKE_GPU"):
            pytest.fail(f"CI must have a fake GPU: {reason}")
        pytest.skip(f"no fake GPU: {reason}")
    command = [sys.executable, "-m", "tests.unit.trainables.fake_gpu.scenarios", tmp_path_factory.mktemp("fake-gpu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*FLAT, "lora, padded"])
def test_no_step_waits_and_every_copy_is_from_pinned_memory(found, name):
    seen = found[name]
    assert "error" not in seen
    assert seen["steps"] > 1
    assert seen["pageable"] == {}
    assert {place.split(":")[0] for place in seen["waits"]} <= set(MAY_WAIT)


@pytest.mark.parametrize("name", FLAT)
def test_every_layer_of_every_pass_runs_one_variable_length_kernel(found, name):
    seen = found[name]
    assert seen["one by one"] == 0
    assert seen["varlen"] > 0
    assert seen["varlen"] % seen["layers"] == 0


@pytest.mark.parametrize("name", FLAT)
def test_weights_are_loaded_straight_to_the_gpu(found, name):
    assert found[name]["loaded to"] == ["cuda:0"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (
            "full without the cast of q, k, v",
            "WaitedError: the host would wait for the GPU at trainables/models/flat_attention.py:",
        ),
        ("full with a batch left on the host", "FakeTensorDeviceMismatchError: "),
    ],
)
def test_what_would_be_slow_or_wrong_on_a_gpu_raises(found, name, error):
    assert found[name]["error"].startswith(error)


def test_a_pageable_copy_is_seen_with_its_line(found):
    places = {place.split(":")[0] for place in found["full without pinning"]["pageable"]}
    assert "trainables/data/dataset.py" in places
