"""What a process that was killed leaves in a sweep's folder, removed when the next driver begins.

Nothing reads any of it; but half-written files, and what an ended trial could have gone on from, would pile up, and a
lock of the study's journal holds the next driver up for half a minute.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from trainables.storage.layout import CHECKPOINTS_FOLDER, STATES_FOLDER, STUDY_FILE, TRIALS_FOLDER, trial_file
from trainables.storage.working_copy import WorkingCopy


def remove_leftovers(copy: WorkingCopy, ended: Iterable[str]) -> None:
    """Removes leftovers; the driver's lock must be held.

    Trials that have not ended are left alone: a lane that outlived its driver may still write there, and the next
    attempt at the trial cleans up itself.

    Args:
        copy: The sweep's folder, and its store, if it lies in one.
        ended: Ids of the trials that have ended, by the ledger.
    """
    folder = copy.folder
    (folder / f"{STUDY_FILE}.lock").unlink(missing_ok=True)  # a link to the journal: this driver alone may write it
    for left in folder.glob(".*.*"):
        if left.is_file():
            left.unlink()
    states = {key.split("/")[1] for key in copy.remote.listed("trials") if "/state/" in key} if copy.remote else set()
    for trial_id in states.intersection(ended):
        copy.drop(trial_file(trial_id, STATES_FOLDER))
    for trial in (folder / TRIALS_FOLDER / trial_id for trial_id in ended):
        shutil.rmtree(trial / STATES_FOLDER, ignore_errors=True)
        for half in (trial / CHECKPOINTS_FOLDER).glob("*.partial"):
            shutil.rmtree(half, ignore_errors=True)
