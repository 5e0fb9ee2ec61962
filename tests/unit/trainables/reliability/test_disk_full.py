"""A full disk: writes wait for room and leave what they would have left without it. The disk is a small tmpfs."""

import contextlib
import errno
import subprocess
import threading
from pathlib import Path

import pytest
import torch

from sweeps.driver.storage_errors import StorageLostError, used_patiently
from sweeps.ledger.ledger import Ledger
from sweeps.search.study import StudyJournal
from trainables.checkpoints import checkpoint
from trainables.checkpoints.async_writer import Pending, Writer
from trainables.checkpoints.training_state import TrainingState, load_latest, save
from trainables.reliability import disk_full
from trainables.storage.atomic import append_whole, write_whole

SIZE_BYTES = 1 << 20


@pytest.fixture
def full_disk(tmp_path):
    """A full file system of 1 MB, and a file on it that can make way."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system can't be mounted here")
    yield place, place / "filler"
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(filler):
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):  # what is left is less than a block
            with contextlib.suppress(OSError):
                for _ in range(SIZE_BYTES):
                    file.write(bytes(size))


def patient(filler, said, **options):
    """There is room as soon as the user has been told."""

    def say(text):
        said.append(text)
        filler.unlink(missing_ok=True)

    return disk_full.patient(say, retry_seconds=0.01, **options)


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
    pending.submit(place / "state", tensors, lambda copy: save(place / "state", TrainingState(7, copy, {})))
    pending.settle()
    found = load_latest(place / "state", {})
    return found.step, found.tensors["rows"].tolist()


@pytest.mark.parametrize("write", [append, replace, ledger, journal, state])
def test_a_write_waits_and_leaves_what_it_leaves_where_there_is_room(full_disk, write, tmp_path):
    place, filler = full_disk
    roomy = tmp_path / "roomy"
    roomy.mkdir()
    if write is not state:  # a file is already there, and its rest of a block free, as in the middle of a sweep
        for folder in (place, roomy):
            write(folder)
    fill(filler)
    said = []
    with patient(filler, said):
        after = write(place)
    assert after == write(roomy)
    assert "MB free): the sweep waits" in said[0]
    assert "there is room again" in said[1]
    assert len(said) == 2
    assert not [path for path in place.rglob("*") if "partial" in path.name or path.name.startswith(".")]


def test_who_is_not_patient_or_gives_up_gets_the_error_and_the_file_as_it_was(full_disk):
    place, filler = full_disk
    append_whole(place / "file", b"line\n")
    fill(filler)
    with pytest.raises(OSError, match="No space left"):
        append_whole(place / "file", bytes(10_000))
    asked = []
    with (
        disk_full.patient(lambda text: None, lambda: len(asked) > 2 or asked.append(1), 0.01),
        pytest.raises(OSError, match="No space left"),
    ):
        append_whole(place / "file", bytes(10_000))
    assert len(asked) == 3
    assert (place / "file").read_bytes() == b"line\n"


def test_it_is_known_that_a_write_waits():
    told, room = threading.Event(), threading.Event()

    def write():
        if not room.is_set():
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with disk_full.patient(lambda text: told.set(), retry_seconds=0.01):
        writing = threading.Thread(target=disk_full.patiently, args=(Path("/nowhere/file"), write))
        writing.start()
        told.wait()
        while not disk_full.is_waiting():
            pass
        room.set()
        writing.join()
        assert not disk_full.is_waiting()


def test_other_errors_do_not_wait():
    with disk_full.patient(lambda text: None), pytest.raises(OSError, match="broken"):
        disk_full.patiently(Path(), lambda: exec('raise OSError(5, "broken")'))


def test_a_storage_that_is_lost_is_one_line(tmp_path):
    class Interrupt:
        def is_set(self):
            return False

    def search():
        try:
            raise OSError(errno.EROFS, "Read-only file system", "/sweeps/demo/ledger.jsonl")
        except OSError as error:
            raise RuntimeError("the search failed") from error

    with pytest.raises(StorageLostError) as caught, used_patiently(tmp_path, Interrupt(), None):
        search()
    assert str(caught.value) == (
        "/sweeps/demo/ledger.jsonl: must be writable, got Read-only file system; "
        f"see to it, then continue: python -m sweeps.run --resume {tmp_path}"
    )
    with pytest.raises(RuntimeError, match="a bug"), used_patiently(tmp_path, Interrupt(), None):
        raise RuntimeError("a bug")


def test_a_checkpoint_that_does_not_fit_leaves_nothing(full_disk):
    place, _ = full_disk
    model = torch.nn.Linear(1000, 1000)
    weights = checkpoint.Weights({}, lambda tensors, folder: checkpoint.save_file(tensors, folder / "w.safetensors"))
    with pytest.raises(OSError) as caught:
        checkpoint.save_weights(weights, dict(model.state_dict()), place / "step-1", {})
    assert caught.value.errno == errno.ENOSPC
    assert list(place.iterdir()) == []
