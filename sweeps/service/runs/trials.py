"""Drops one trial of a running sweep."""

from __future__ import annotations

from pathlib import Path

from analysis.records.json_files import read_json_lines
from sweeps.folder.dropped_trials import ask_to_drop
from sweeps.ledger.ledger import Ledger
from sweeps.service.queue.entries import RUNNING, Entry
from sweeps.service.queue.queue import ConflictError
from trainables.storage.layout import TRIALS_FILE


def drop_trial(folder: Path, entry: Entry, trial_id: str, user: str) -> None:
    """Asks the sweep's driver to end a trial, which then counts as stopped early.

    Args:
        folder: The sweep's.
        entry: The sweep in the queue.
        trial_id: One that has a folder.
        user: Who asks.

    Raises:
        ConflictError: The sweep does not run, the trial has ended, or it is none of the search.
    """
    if entry.state != RUNNING:
        raise ConflictError(entry.name, "must be running", entry.outcome or entry.state, "resume it first")
    ended, _ = read_json_lines(folder / TRIALS_FILE)
    # The last line of a trial counts; a failed one is trained again under its id.
    state = {trial["trial_id"]: trial["state"] for _, trial in ended}.get(trial_id)
    if state and state != "failed":
        raise ConflictError(trial_id, "must be running", state, "see the leaderboard")
    specs = [event["spec"] for event in Ledger(folder).read()[0] if event["event"] == "trial_submitted"]
    kind = next((spec["kind"] for spec in specs if spec["trial_id"] == trial_id), "none")
    if kind != "search":  # what confirms a setting is complete or worth nothing
        raise ConflictError(trial_id, "must be a trial of the search", kind, "stop the sweep instead")
    ask_to_drop(folder, trial_id, user)
