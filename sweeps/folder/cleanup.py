"""Removal of what a killed process leaves in a sweep's folder."""

from __future__ import annotations

import shutil
from collections.abc import Collection

from sweeps.folder.sweep_store import SweepStore
from trainables.storage.layout import CHECKPOINTS_FOLDER, STATES_FOLDER, STUDY_FILE, TRIALS_FOLDER


def remove_leftovers(store: SweepStore, ended: Collection[str]) -> None:
    """Removes half-written files, a stale journal lock, and the resume states of the trials in `ended`.

    The driver's lock must be held.
    """
    folder = store.folder
    # Optuna's lock is a symbolic link to the journal. A stale one would hold this driver up for half a minute.
    (folder / f"{STUDY_FILE}.lock").unlink(missing_ok=True)
    for left in folder.glob(".*.*"):  # temporary files of atomic writes
        if left.is_file():
            left.unlink()
    # Only ended trials: a lane that outlived its driver may still write to others. Their next attempt cleans up.
    store.drop_states_in_store(ended)
    for trial in (folder / TRIALS_FOLDER / trial_id for trial_id in ended):
        shutil.rmtree(trial / STATES_FOLDER, ignore_errors=True)
        for half in (trial / CHECKPOINTS_FOLDER).glob("*.partial"):
            shutil.rmtree(half, ignore_errors=True)
