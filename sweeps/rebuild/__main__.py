"""`python -m sweeps.rebuild DIR`: restores a sweep's files from its ledger.

`sweep.yaml`, `baseline.json`, `trials.jsonl` and the study come from the ledger only. The leaderboard also needs the
items in `trials/`, and the W&B runs the curves.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from analysis.cli import DONE, NO_COMPLETE_TRIAL, Parser, local_path, run
from analysis.rank.leaderboard import write_leaderboard
from analysis.records.locate import opened
from sweeps.config.sweep_config import SweepConfig, dump_config
from sweeps.folder.driver_lock import one_driver
from sweeps.folder.driver_lock_in_store import one_driver_in_store
from sweeps.folder.resume import validated
from sweeps.ledger.history import ended_trials, last, trial_lines, write_baseline, write_trials
from sweeps.ledger.ledger import Event, Ledger
from trainables.errors import UserError
from trainables.storage.atomic import write_whole
from trainables.storage.layout import BASELINE_FILE, LEADERBOARD_FILE, LEDGER_FILE, STUDY_FILE, SWEEP_FILE, TRIALS_FILE
from trainables.storage.object_store import Remote, is_url
from trainables.storage.working_copy import parent_and_name, place_of

EXAMPLE = """example:
  python -m sweeps.rebuild outputs/demo                       # the files of the folder
  python -m sweeps.rebuild outputs/demo --wandb outputs/runs  # and W&B runs, for `wandb sync`

exit codes: 0 done, 2 wrong arguments or files, 3 done, but no complete trial with held-out scores"""

REBUILT_FILES = (SWEEP_FILE, BASELINE_FILE, TRIALS_FILE, STUDY_FILE, LEADERBOARD_FILE)


def rebuild(folder: Path) -> list[str]:
    """Writes every file that follows from the ledger; other files stay as they are.

    Returns:
        The ledger's faulty lines and the files written, as sentences.

    Raises:
        UserError: The ledger is missing or lacks the sweep's config, or the sweep's driver is running.
    """
    from sweeps.search.study import rebuild_study  # imports Optuna, which `--help` does without

    if not (folder / LEDGER_FILE).is_file():
        raise UserError(
            place_of(folder), f"must be the folder of a sweep, with a {LEDGER_FILE}", "none", "check the path"
        )
    with one_driver(folder):
        ledger = Ledger(folder)
        events, _ = ledger.read()
        config = config_of(folder, events)
        ended = ended_trials(events)
        write_whole(folder / SWEEP_FILE, dump_config(config))
        write_trials(folder, trial_lines(events))
        lines = [*ledger.faults(), f"trials.jsonl: {len(ended)} trials"]
        baseline = last(events, "baseline")
        if baseline:
            write_baseline(folder, baseline["areas"])
            # In the working copy of an object store the config names the URL; the study is written locally.
            here = {"name": folder.resolve().name, "storage_path": str(folder.resolve().parent)}
            lines.append(f"study.log: {rebuild_study(config.model_copy(update=here), events)} trials")
        else:
            lines.append("baseline.json, study.log: the base model had not been scored")
    return lines


def config_of(folder: Path, events: Iterable[Event]) -> SweepConfig:
    """The config of the sweep's last start, with the folder's present name and place.

    Raises:
        UserError: No event holds a config that this version reads.
    """
    started = last(events, "sweep_started") or {}
    if "config" not in started:
        rule, remedy = "must hold the sweep's config in an event sweep_started", "resume the sweep instead"
        raise UserError(str(folder / LEDGER_FILE), rule, "none", remedy)
    config = validated(started["config"], folder / LEDGER_FILE)
    parent, name = parent_and_name(place_of(folder))
    return config.model_copy(update={"name": name, "storage_path": parent})


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("python -m sweeps.rebuild", "Makes a sweep's files anew from its ledger.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    parser.add_argument("--wandb", metavar="OUT", help="a new folder for an offline W&B run of each trial")
    given = parser.parse_args(arguments)

    def command() -> int:
        from sweeps.search.study import mark_study  # imports Optuna, which `--help` does without

        out = local_path(given.wandb, "--wandb") if given.wandb else None
        remote = Remote(given.folder) if is_url(given.folder) else None
        # Two locks: the store's against drivers on other machines, the folder's (in `rebuild`) against one on this.
        with one_driver_in_store(remote), opened(given.folder, REBUILT_FILES) as folder:
            for line in rebuild(folder):
                print(line)
            board = write_leaderboard(folder)
            mark_study(folder, board)
        print(f"leaderboard.json: {board['verdict']}")
        if out:
            from sweeps.rebuild.wandb_runs import write_runs

            print(f"wandb: {write_runs(folder, out)} runs; upload them: wandb sync {shlex.quote(str(out))}/wandb/*")
        return DONE if board["winner"] else NO_COMPLETE_TRIAL

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
