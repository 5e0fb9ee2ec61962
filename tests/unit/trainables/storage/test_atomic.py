"""Atomic writes on a full disk: they fail with the file's name and leave what was there. The disk is a small tmpfs."""

import contextlib
import errno
import subprocess

import pytest
import torch

from sweeps.ledger.ledger import Ledger
from sweeps.search.study import StudyJournal
from trainables.checkpoints import checkpoint, training_state
from trainables.checkpoints.async_writer import Pending, Writer
from trainables.checkpoints.training_state import TrainingState
from trainables.errors import DISK_FULL, os_error
from trainables.storage.atomic import append_whole, write_whole

SIZE_BYTES = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system can't be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(filler):
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):  # what is left is less than a block
            with contextlib.suppress(OSError):
                for _ in range(SIZE_BYTES):
                    file.write(bytes(size))


def append(place):
    append_whole(place / "file", b"line\n" * 1000)
    return (place / "file").read_bytes()


def replace(place):
    write_whole(place / "file", "line\n" * 1000)
    return (place / "file").read_bytes()


def ledger(place):
    Ledger(place).append("trial_ended", trial={"trial_id": "t0001", "text": "x" * 5000})
    return [event["trial"] for event in Ledger(place).read()[0]]


def journal(place):
    backend = StudyJournal(str(place / "study.log"))
    backend.append_logs([{"text": "x" * 5000}])
    return list(backend.read_logs(0))


def state(place):
    pending = Pending(Writer())
    tensors = {"rows": torch.arange(50_000.0)}
    room = pending.reserve(tensors)
    pending.submit(tensors, lambda copy: training_state.write(place / "state", TrainingState(7, copy, {})), room)
    pending.settle()
    found = training_state.load(training_state.whole_states(place / "state", {})[7])
    return found.step, found.tensors["rows"].tolist()


@pytest.mark.parametrize("write", [append, replace, ledger, journal, state])
def test_a_write_that_fails_leaves_what_was_there_and_works_when_there_is_room(small_disk, write, tmp_path):
    filler, roomy = small_disk / "filler", tmp_path / "roomy"
    roomy.mkdir()
    if write is not state:  # a file is already there, and its rest of a block free, as in the middle of a sweep
        for folder in (small_disk, roomy):
            write(folder)
    fill(filler)
    before = {path: path.read_bytes() for path in small_disk.rglob("*") if path.is_file()}
    with pytest.raises(OSError) as caught:
        write(small_disk)
    assert os_error(caught.value, DISK_FULL) is caught.value
    assert str(small_disk) in str(caught.value.filename)
    assert {path: path.read_bytes() for path in small_disk.rglob("*") if path.is_file()} == before
    filler.unlink()
    assert write(small_disk) == write(roomy)


def test_a_checkpoint_that_does_not_fit_leaves_nothing(small_disk):
    model = torch.nn.Linear(1000, 1000)
    weights = checkpoint.Weights({}, lambda tensors, folder: checkpoint.save_file(tensors, folder / "w.safetensors"))
    with pytest.raises(OSError) as caught:
        checkpoint.save_weights(weights, dict(model.state_dict()), small_disk / "step-1", {})
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []
