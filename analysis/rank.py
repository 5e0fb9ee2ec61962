"""The leaderboard: every checkpoint of every complete trial, compared on the whole of the held-out areas.

Run `python -m analysis.rank DIR` for the table. The objective is the weighted mean over areas of the items' mean NLL,
lowest first. A trial without held-out scores has no rank; nothing else (training loss, say) is put in their place.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from analysis import stats
from analysis.command import DONE, NO_COMPLETE_TRIAL, Parser, run
from analysis.contenders import Contender, Figures, baseline_summary, compare, read_contenders
from analysis.rank_table import print_board, verdict
from analysis.records import Trial, read_sweep
from trainables.files import write_whole

SCOPE = "items only, seeds not covered yet"
EXAMPLE = """example:
  python -m analysis.rank outputs/demo          # the table; also writes outputs/demo/leaderboard.json
  python -m analysis.rank outputs/demo --json   # the same as JSON

exit codes: 0 done, 2 wrong arguments or files, 3 no complete trial with held-out scores"""


def leaderboard(folder: str | Path) -> dict[str, Any]:
    """Ranks a sweep's trials.

    Args:
        folder: The sweep's folder.

    Returns:
        `winner` ({"trial_id", "step"}, or None where no complete trial has held-out scores), `tied` (the same pair for
        each trial whose difference to the winner has an interval that includes 0, or no interval), `rows` (one a
        trial: ranked ones first, then complete ones without scores, then the rest), `verdict` (a sentence),
        `baseline`, `weights`, `intervals` (how they were made and what they leave out), `notes` on the files. Losses
        are in nats a token; an interval is `[low, high]`; what isn't known is None.

    Raises:
        UserError: The folder is missing or a file in it can't be read.
    """
    sweep = read_sweep(folder)
    notes = list(sweep.notes)
    contenders, base = read_contenders(sweep, notes)
    able = [contender for contender in contenders if contender.defect is None]
    figures = compare(able, base, sweep) if able else {}
    rows = _ranked([_row(trial, contenders, figures) for trial in sweep.trials])
    winner = rows[0] if figures else None
    for row in rows:
        row["replicates"] = [trial.trial_id for trial in sweep.trials if trial.replicate_of == row["trial_id"]]
        row["tied"] = row["rank"] is not None and row is not winner and _includes_zero(row["behind_interval"])
    board = {
        "name": sweep.name,
        "winner": _pair(winner) if winner else None,
        "tied": [_pair(row) for row in rows if row["tied"]],
        "verdict": "",
        "rows": rows,
        "baseline": baseline_summary(sweep, base),
        "weights": sweep.weights,
        "intervals": {
            "level": stats.LEVEL,
            "method": "paired bootstrap of clusters of items, stratified by area, percentile",
            "resamples": stats.RESAMPLES,
            "scope": SCOPE,
            "winner": f"optimistic: the lowest of {len(able)} checkpoints, not corrected for having been selected",
        },
        "notes": notes,
    }
    return _plain({**board, "verdict": verdict(board)})


def write_leaderboard(folder: str | Path) -> dict[str, Any]:
    """Ranks a sweep and writes `leaderboard.json` into its folder (beside itself, then renamed).

    Returns:
        What `leaderboard` returns.

    Raises:
        UserError: As `leaderboard`.
        OSError: The file can't be written.
    """
    board = leaderboard(folder)
    write_whole(Path(folder) / "leaderboard.json", _as_json(board))
    return board


def main(arguments: list[str] | None = None) -> int:
    """The command `python -m analysis.rank`; returns its exit code."""
    parser = Parser("python -m analysis.rank", "Ranks the trials of a sweep on its held-out areas.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder, <storage_path>/<name>")
    parser.add_argument("--json", action="store_true", help="print the leaderboard as JSON instead of a table")
    given = parser.parse_args(arguments)

    def command() -> int:
        board = write_leaderboard(given.folder)
        if given.json:
            sys.stdout.write(_as_json(board))
            sys.stdout.flush()
        else:
            print_board(board)
        return DONE if board["winner"] else NO_COMPLETE_TRIAL

    return run(command)


def _row(trial: Trial, contenders: list[Contender], figures: dict[tuple[str, int], Figures]) -> dict[str, Any]:
    """One trial's row: its best checkpoint's figures, and all checkpoints within."""
    checkpoints = [
        {
            "step": c.step,
            "path": c.path,
            "defect": c.defect,
            **figures.get((trial.trial_id, c.step), {"objective": None}),
        }
        for c in contenders
        if c.trial_id == trial.trial_id
    ]
    scored = [c for c in checkpoints if c["objective"] is not None]
    best = min(scored, key=lambda c: (c["objective"], c["step"])) if scored else {}
    if trial.state != "complete":
        checkpoints = [{"step": c.get("step"), "path": c.get("path"), "objective": None} for c in trial.checkpoints]
    return {
        "rank": None,
        "trial_id": trial.trial_id,
        "step": best.get("step"),
        "state": trial.state,
        "kind": trial.kind,
        "replicate_of": trial.replicate_of,
        "seed": trial.seed,
        "params": dict(trial.params),
        "drawn": dict(trial.drawn) if trial.drawn else None,
        **{name: best.get(name) for name in ("objective", "gain", "gain_interval", "behind", "behind_interval")},
        "areas": best.get("areas", {}),
        "checkpoints": checkpoints,
        "findings": len(trial.findings),
        "cost": dict(trial.cost),
        "steps": trial.steps,
        "steps_planned": trial.steps_planned,
        "error": trial.error,
    }


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ranked rows first by objective (then step, then id, so that the order of trials can't matter), the rest after."""
    scored = [row for row in rows if row["objective"] is not None]
    scored.sort(key=lambda row: (row["objective"], row["step"], row["trial_id"]))
    rest = [row for row in rows if row["objective"] is None]
    rest.sort(key=lambda row: (row["state"] != "complete", row["state"], row["trial_id"]))
    return [{**row, "rank": rank} for rank, row in enumerate(scored, start=1)] + rest


def _pair(row: dict[str, Any]) -> dict[str, Any]:
    return {"trial_id": row["trial_id"], "step": row["step"]}


def _includes_zero(interval: list[float] | None) -> bool:
    return interval is None or interval[0] <= 0 <= interval[1]


def _plain(value: Any) -> Any:
    """The same with None for every number that isn't finite, for JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_json(board: dict[str, Any]) -> str:
    return json.dumps(board, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
