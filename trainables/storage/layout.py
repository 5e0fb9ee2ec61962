"""Names of the files in a sweep's folder; `docs/architecture.md` says what each holds.

Paths are relative to the folder, or to a trial's where that is said. In an object store the same names are keys.
"""

from __future__ import annotations

SWEEP_FILE = "sweep.yaml"
MANIFEST_FILE = "manifest.json"
PLAN_FILE = "plan.json"
BASELINE_FILE = "baseline.json"
LEDGER_FILE = "ledger.jsonl"
TRIALS_FILE = "trials.jsonl"
LEADERBOARD_FILE = "leaderboard.json"
STUDY_FILE = "study.log"
REPORT_FILE = "report.html"
WANDB_VIEW_FILE = "wandb_view.json"
LOCK_FILE = "driver.lock"

WANDB_ID = "wandb/folder-id"
"""What W&B's run ids are made of (`trainables.tracking.wandb_client.folder_id`): the same for all copies of a
sweep."""

CACHE_FOLDER = "cache"
TRAIN_FILE = "train.arrow"
"""The tokenized training set, in `CACHE_FOLDER`."""

TRIALS_FOLDER = "trials"
BASELINE_TRIAL = "baseline"
"""The folder, in `TRIALS_FOLDER`, of the base model's scores."""
CURVE_FILE = "curve.jsonl"
"""In a trial's folder, like the next four."""
ITEMS_FILE = "heldout.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"
STATES_FOLDER = "state"
WRITER_FILE = "writer.json"

# Only in an object store.
LEDGER_PARTS = "ledger/"
DRIVERS = "drivers/"
CLOCK_KEY = "driver.clock"

COPY_MARK = ".copy"
"""Only in a working copy of a sweep in an object store: of what it is one, and which version of each file it has."""


def area_file(area: str) -> str:
    """The tokenized items of a held-out area, in `CACHE_FOLDER`."""
    return f"heldout-{area}.arrow"


def trial_file(trial_id: str, name: str) -> str:
    """A trial's file, from the sweep's folder."""
    return f"{TRIALS_FOLDER}/{trial_id}/{name}"
