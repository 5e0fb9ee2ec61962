"""Reads everything that the report shows from a sweep's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.output.leaderboard import Leaderboard, LeaderboardRow
from analysis.rank.leaderboard import leaderboard
from analysis.records.json_files import read_json, read_json_lines
from analysis.records.sweep import Sweep, Trial, read_sweep
from analysis.stats.curve_smoothing import Curve, thin
from trainables.storage.layout import LEDGER_FILE, MANIFEST_FILE, PLAN_FILE

Row = LeaderboardRow


@dataclass(frozen=True)
class Material:
    """A sweep as the report's sections read it."""

    sweep: Sweep  # its records
    board: Leaderboard  # its leaderboard
    curves: Mapping[str, Curve]  # thinned loss curves by trial; trials without one are left out
    plan: Mapping[str, Any] | None  # `plan.json`; None if missing
    manifest: Mapping[str, Any] | None  # `manifest.json`; None if missing
    ledger: list[dict[str, Any]]  # the ledger's events; empty if missing

    @property
    def ranked(self) -> list[Row]:
        """The ranked settings, best first."""
        return [row for row in self.board["rows"] if row["rank"] is not None]

    @property
    def trials(self) -> dict[str, Trial]:
        """The ended trials by id."""
        return {trial.trial_id: trial for trial in self.sweep.trials}

    @property
    def device_hours(self) -> float | None:
        """Cost of the lanes by the last ledger event that has it; None without one."""
        spent = [event["device_hours"] for event in self.ledger if isinstance(event.get("device_hours"), int | float)]
        return float(spent[-1]) if spent else None


def read_material(folder: str | Path, board: Leaderboard | None = None) -> Material:
    """Reads a sweep for its report; a running sweep gives what there is.

    Raises:
        UserError: The folder is missing or isn't a sweep's, or a file in it can't be read.
    """
    sweep = read_sweep(folder)
    # Ranking a large sweep takes seconds: a caller that has the leaderboard passes it.
    board = board or leaderboard(folder)
    plan = read_json(sweep.folder / PLAN_FILE)
    curves = {
        trial.trial_id: thin(records, trial.steps_planned, speed=sweep.speed(trial.trial_id))
        for trial in sweep.trials
        for records in [sweep.curve(trial.trial_id)[0]]
        if records
    }
    return Material(
        sweep=sweep,
        board=board,
        curves=curves,
        plan=plan,
        manifest=read_json(sweep.folder / MANIFEST_FILE),
        ledger=[event for _, event in read_json_lines(sweep.folder / LEDGER_FILE)[0]],
    )
