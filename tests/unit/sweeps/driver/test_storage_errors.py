"""Errors of the storage: one line, with the file, the cause and how to go on."""

import errno

import pytest

from sweeps.driver.interrupt import Interrupt
from sweeps.driver.storage_errors import StorageLostError, reported_in_one_line


@pytest.mark.parametrize(
    ("number", "reason", "action"),
    [
        (errno.EROFS, "Read-only file system", "see to it"),
        (errno.ENOSPC, "No space left on device", "free space"),
        (errno.EDQUOT, "Disk quota exceeded", "free space"),
    ],
)
def test_storage_that_can_not_be_written_is_one_line(tmp_path, number, reason, action):
    with pytest.raises(StorageLostError) as caught, reported_in_one_line(tmp_path, Interrupt()):
        raise RuntimeError("the search failed") from OSError(number, reason, "/sweeps/demo/ledger.jsonl")
    assert str(caught.value) == (
        f"/sweeps/demo/ledger.jsonl: must be writable, got {reason}; "
        f"{action}, then continue: python -m sweeps.run --resume {tmp_path}"
    )


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), reported_in_one_line(tmp_path, Interrupt()):
        raise RuntimeError("a bug")
