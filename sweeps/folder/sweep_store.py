"""The driver's view of a sweep's files: a folder, and the object store that it is a copy of, if there is one.

Every `publish_*` and `fetch_*` method does nothing for a sweep in a plain folder.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from pathlib import Path

from trainables.evaluation import base_losses
from trainables.storage.layout import (
    BASELINE_FILE,
    BASELINE_TRIAL,
    CACHE_FOLDER,
    CHECKPOINTS_FOLDER,
    CURVE_FILE,
    ITEMS_FILE,
    LEADERBOARD_FILE,
    LEDGER_FILE,
    PLAN_FILE,
    STATES_FOLDER,
    STUDY_FILE,
    SWEEP_FILE,
    TRIAL_LINES,
    TRIALS_FOLDER,
    WANDB_ID,
    trial_file,
)
from trainables.storage.object_store import Remote
from trainables.storage.working_copy import DRIVER, READER, WorkingCopy, join_ledger, top

# What a driver uploads before the sweep has begun: such a place in a store is still free.
_BEFORE_IT_BEGINS = (PLAN_FILE, WANDB_ID, f"{CACHE_FOLDER}/", "driver.")


class SweepStore:
    """Moves a sweep's files between the driver's folder and the sweep's object store.

    Attributes:
        folder: Where the files are on this node.
        remote: The sweep's place in an object store; None for a sweep in a plain folder.
    """

    def __init__(self, copy: WorkingCopy) -> None:
        self._copy = copy
        self.folder: Path = copy.folder
        self.remote: Remote | None = copy.remote

    @classmethod
    def of_driver(cls, place: str) -> SweepStore:
        return cls(WorkingCopy.of(place, DRIVER))

    @classmethod
    def of_reader(cls, place: str) -> SweepStore:
        # A reader has a copy of its own, because it looks before it holds the driver's lock.
        return cls(WorkingCopy.of(place, READER))

    @property
    def place(self) -> str:
        """The sweep's folder or URL, as the user knows it."""
        return self._copy.place

    def is_taken(self) -> bool:
        """Whether a sweep, or something else, occupies the place. A plan, or a driver's early uploads, do not."""
        if self.remote:
            return any(not name.startswith(_BEFORE_IT_BEGINS) for name in self.remote.listed())
        folder = self.folder
        return folder.exists() and (not folder.is_dir() or any(entry.name != PLAN_FILE for entry in folder.iterdir()))

    def fetch_all(self) -> None:
        """Fetches everything but weights and training states."""
        self._copy.pull()

    def fetch_top_files(self) -> None:
        """Fetches the files in the sweep's folder itself: config, plan, manifest, trials, ledger."""
        self._copy.pull(top)
        if self.remote:
            join_ledger(self.remote, self.folder / LEDGER_FILE)

    def publish_top_files(self) -> None:
        self._copy.push_top()

    def publish_draft(self) -> None:
        """Publishes a folder that has just become the sweep's."""
        self._copy.write_mark()
        if self.remote:
            self.remote.create(WANDB_ID, secrets.token_hex(16).encode())
            self._copy.fetch(WANDB_ID)
        self.publish_cache()
        # `sweep.yaml` goes last: with it the sweep can be resumed, so all else must be there.
        self._copy.push(PLAN_FILE, SWEEP_FILE)

    def publish_cache(self) -> None:
        """Publishes the tokenized data."""
        cached = (self.folder / CACHE_FOLDER).iterdir()
        self._copy.push(*(f"{CACHE_FOLDER}/{path.name}" for path in cached))

    def publish_leaderboard(self, report_name: str) -> None:
        """Publishes what the end of a sweep writes."""
        self._copy.push(LEADERBOARD_FILE, STUDY_FILE, report_name)

    def fetch_base_losses(self) -> None:
        self._copy.fetch(base_losses.FILE)

    def fetch_curve(self, trial_id: str) -> None:
        self._copy.fetch(trial_file(trial_id, CURVE_FILE))

    def fetch_trial(self, trial_id: str) -> None:
        """Fetches a trial's curve, held-out items and speed."""
        self._copy.fetch(*(trial_file(trial_id, name) for name in TRIAL_LINES))

    def publish_items(self, trial_id: str) -> None:
        self._copy.push(trial_file(trial_id, ITEMS_FILE))

    def fetch_baseline_items(self, areas: Iterable[str]) -> list[Path]:
        """Fetches the base model's items, a file for each area."""
        names = [_baseline_items(area) for area in areas]
        self._copy.fetch(*names)
        return [self.folder / name for name in names]

    def publish_baseline(self, areas: Iterable[str]) -> None:
        """Publishes the base model's scores, and removes the areas' own files, now merged into one."""
        self._copy.push(trial_file(BASELINE_TRIAL, ITEMS_FILE), BASELINE_FILE)
        for area in areas:
            self._copy.drop(_baseline_items(area))

    def drop_state(self, trial_id: str) -> None:
        """Removes a trial's resume state, here and in the store."""
        self._copy.drop(trial_file(trial_id, STATES_FOLDER))

    def drop_states_in_store(self, trial_ids: Iterable[str]) -> None:
        """Removes these trials' resume states where the store has any."""
        if self.remote:
            # One listing for all trials: a request for each would make a long sweep's start slow.
            stored = {key.split("/")[1] for key in self.remote.listed(TRIALS_FOLDER) if f"/{STATES_FOLDER}/" in key}
            for trial_id in stored.intersection(trial_ids):
                self.drop_state(trial_id)

    def keep_checkpoints(self, trial_id: str, steps: Collection[int]) -> None:
        """Removes all of a trial's checkpoints but those at these steps, here and in the store."""
        self._copy.keep_only(trial_file(trial_id, CHECKPOINTS_FOLDER), {f"step-{step}" for step in steps})


def publish_plan(draft: Path, url: str) -> None:
    """Uploads the plan in a draft folder to a sweep's URL."""
    WorkingCopy(draft, Remote(url)).push(PLAN_FILE)


def _baseline_items(area: str) -> str:
    return trial_file(BASELINE_TRIAL, f"{area}.jsonl")
