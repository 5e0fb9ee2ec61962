"""Names of the files in a sweep's folder, which are also keys in an object store; see `docs/architecture.md`."""

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
DROPPED_FOLDER = "dropped"  # requests to end single trials

# W&B's run ids are derived from its content, which is the same for all copies of a sweep.
WANDB_ID = "wandb/folder-id"

CACHE_FOLDER = "cache"
TRAIN_FILE = "train.arrow"  # the tokenized training set, in CACHE_FOLDER
CHAT_TEMPLATE_FILE = "chat_template.jinja"  # the user's own chat template, in CACHE_FOLDER

TRIALS_FOLDER = "trials"
BASELINE_TRIAL = "baseline"  # the base model's scores, in TRIALS_FOLDER

# In a trial's folder.
CURVE_FILE = "curve.jsonl"
SPEED_FILE = "speed.jsonl"
ITEMS_FILE = "heldout.jsonl"
TRIAL_LINES = (CURVE_FILE, ITEMS_FILE, SPEED_FILE)  # those that grow while the trial trains
CHECKPOINTS_FOLDER = "checkpoints"
STATES_FOLDER = "state"
WRITER_FILE = "writer.json"

# Only in an object store.
LEDGER_PARTS = "ledger/"
DRIVERS = "drivers/"
CLOCK_KEY = "driver.clock"

# Only in a working copy of a sweep in an object store: the URL, and the version of each file.
COPY_MARK = ".copy"


def area_file(area: str) -> str:
    """File of the tokenized items of a held-out area, in `CACHE_FOLDER`."""
    return f"heldout-{area}.arrow"


def trial_file(trial_id: str, name: str) -> str:
    """Path of a trial's file, relative to the sweep's folder."""
    return f"{TRIALS_FOLDER}/{trial_id}/{name}"
