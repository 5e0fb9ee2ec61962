"""Transfers between a lane and a sweep in an object store; for a sweep in a folder they do nothing.

A curve is uploaded before its steps are reported, and all files of a trial before its end is.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from trainables.config.trial_spec import LaneConfig
from trainables.models.pretrained import resolve_model
from trainables.storage.layout import CHECKPOINTS_FOLDER, TRIAL_LINES, WANDB_ID, WRITER_FILE, trial_file
from trainables.storage.object_store import Remote, StoreError
from trainables.storage.sealed_folder import COMPLETE, DamagedError, pull_sealed, push_sealed
from trainables.storage.working_copy import WorkingCopy, copy_folder, driver_epochs
from trainables.storage.writer_lock import Signature
from trainables.training import found_limit

logger = logging.getLogger(__name__)


class LaneStore:
    """One worker's working copy of a sweep.

    Args:
        copy: The worker's folder, and the sweep's in the store.
        epoch: Epoch of the lane's driver.
    """

    def __init__(self, copy: WorkingCopy, epoch: int = 0) -> None:
        self.copy, self.epoch = copy, epoch
        self._signatures: dict[str, Signature] = {}

    @classmethod
    def opened(cls, settings: LaneConfig, lane: str, rank: int) -> tuple[LaneConfig, LaneStore]:
        """Fetch what a lane needs from its start; return the settings with this worker's paths, and its store.

        Raises:
            StoreError: The store can't be read.
        """
        if settings.store is None:
            return settings, cls(WorkingCopy(Path(settings.output_dir)))
        role = f"{lane}-{rank}-of-driver-{settings.driver_epoch}"
        copy = WorkingCopy(copy_folder(settings.store, role), Remote(settings.store))
        _drop_older(copy.folder.parent.parent, f"{lane}-{rank}-of-driver-", settings.driver_epoch)
        before, here = Path(settings.output_dir), copy.folder
        paths = [settings.tokenized, *settings.tokenized_areas.values()]
        copy.fetch(*(Path(path).relative_to(before).as_posix() for path in paths))
        copy.fetch(WANDB_ID, found_limit.FILE)
        moved = {
            "output_dir": str(here),
            "tokenized": str(here / Path(settings.tokenized).relative_to(before)),
            "tokenized_areas": {
                area: str(here / Path(path).relative_to(before)) for area, path in settings.tokenized_areas.items()
            },
        }
        if not Path(settings.model_path).is_dir():  # this is not the driver's node
            moved["model_path"] = str(resolve_model(settings.model, Path(".cache") / "models"))
        return settings.model_copy(update=moved), cls(copy, settings.driver_epoch)

    def fetch_missing(self, name: str) -> None:
        """Fetch a file if it is missing here and the store has it."""
        if not (self.copy.folder / name).exists():
            self.copy.fetch(name)

    def fetch_sealed(self, key: str) -> None:
        """Fetch a checkpoint; raises `DamagedError` if it is not in the store, whole."""
        if self.copy.remote and not pull_sealed(self.copy.remote, key, self.copy.folder / key):
            raise DamagedError(f"{self.copy.remote.url}/{key}: there is no {COMPLETE}: it was not written to its end")

    def fetch_trial(self, trial_id: str, states: str, *, writes: bool, all_states: bool = False) -> None:
        """Replace a trial's folder by what the store has of it: its curve, its items and its latest whole state.

        Args:
            trial_id: The trial.
            states: Name of the folder of its states.
            writes: Whether this worker uploads; then earlier attempts no longer may.
            all_states: Fetch the states before the latest, too: other workers may lack their parts of that one.

        Raises:
            OvertakenError: A newer driver's attempt has begun.
        """
        remote, trial = self.copy.remote, f"trials/{trial_id}"
        if remote is None:
            return
        if writes:
            signature = self._signatures[trial] = Signature(self.epoch)
            signature.check_before_signing(f"{remote.url}/{trial}", self._signature(trial))
            remote.put(f"{trial}/{WRITER_FILE}", signature.text.encode())
        shutil.rmtree(self.copy.folder / trial, ignore_errors=True)
        self.copy.fetch(*(f"{trial}/{name}" for name in TRIAL_LINES))
        for key in _states(remote, f"{trial}/{states}"):
            try:
                if pull_sealed(remote, key, self.copy.folder / key) and not all_states:
                    return
            except DamagedError as error:
                logger.warning("%s: the trial goes on from an earlier step", error)

    def upload(self, *names: str) -> None:
        """Upload files that are not a trial's.

        Raises:
            StoreError: The store can't be written, or a newer driver has begun.
        """
        if self.copy.remote:
            newest = max(driver_epochs(self.copy.remote), default=0)
            if newest > self.epoch:
                got = f"driver {newest}, and this lane is driver {self.epoch}'s"
                raise StoreError(self.copy.place, "must be written by the newest driver's lanes", got, "this lane ends")
            self.copy.push(*names)

    def upload_trial(self, trial_id: str) -> None:
        """Upload a trial's curve, items and speed.

        Raises:
            StoreError: The store can't be written.
            OvertakenError: Another attempt at the trial has begun.
        """
        if self.copy.remote:
            self._refuse_if_overtaken(f"trials/{trial_id}")
            self.copy.push(*(trial_file(trial_id, name) for name in TRIAL_LINES))

    def upload_sealed(self, folder: Path) -> None:
        """Upload a trial's checkpoint and remove it here. Raises as `upload_trial` does."""
        if self.copy.remote:
            key = self._key(folder)
            self._refuse_if_overtaken("/".join(key.split("/")[:2]))
            push_sealed(self.copy.remote, folder, key)
            shutil.rmtree(folder)

    def follow(self, trial_id: str) -> None:
        """Upload for the attempt at a trial that another worker of this lane has begun, with `fetch_trial`."""
        if self.copy.remote:
            trial = f"trials/{trial_id}"
            self._signatures[trial] = Signature(self.epoch, self._signature(trial))

    def keep_checkpoints(self, trial_id: str, steps: Collection[int]) -> None:
        """Remove a running trial's other checkpoints, here and in the store."""
        key = trial_file(trial_id, CHECKPOINTS_FOLDER)
        self.copy.keep_only(key, {f"step-{step}" for step in steps})

    def drop_earlier(self, folder: Path) -> None:
        """Remove from the store the training states before an uploaded one."""
        if remote := self.copy.remote:
            for earlier in _states(remote, self._key(folder.parent)):
                if earlier != self._key(folder):
                    remote.drop(earlier)

    def _key(self, folder: Path) -> str:
        return folder.relative_to(self.copy.folder).as_posix()

    def _signature(self, trial: str) -> str:
        assert self.copy.remote
        return (self.copy.remote.get(f"{trial}/{WRITER_FILE}") or b"").decode()

    def _refuse_if_overtaken(self, trial: str) -> None:
        # A worker may outlive its driver, or its lane: what it makes then must not replace what counts. An object
        # store has no lock, so an upload that began before the next attempt signed still lands.
        self._signatures[trial].check_before_writing(f"{self.copy.place}/{trial}", self._signature(trial))


def _states(remote: Remote, key: str) -> list[str]:
    # The latest state first.
    places = {f"{key}/{PurePosixPath(name).relative_to(key).parts[0]}" for name in remote.listed(key)}
    return sorted(places, key=lambda place: int(place.rpartition("-")[2]), reverse=True)


def _drop_older(copies: Path, role: str, epoch: int) -> None:
    # What lanes of earlier drivers left here and had not uploaded does not count.
    for folder in copies.glob(f"{role}*"):
        if int(folder.name.removeprefix(role)) < epoch:
            shutil.rmtree(folder, ignore_errors=True)
