"""The end of a sweep: ranked, reported, told to those who wait for it."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from analysis.output.leaderboard_table import print_board
from analysis.rank.leaderboard import write_leaderboard
from analysis.report import write_report
from sweeps.config.sweep_config import SweepConfig
from sweeps.notify import webhook
from trainables.redaction import redact_all
from trainables.storage.layout import LEADERBOARD_FILE, TRIALS_FILE
from trainables.storage.working_copy import DRIVER, WorkingCopy

EXIT_DONE, EXIT_USER_ERROR, EXIT_NO_TRIAL, EXIT_INTERRUPTED = 0, 2, 3, 130


Board = dict[str, Any]
News = dict[str, Any]


def finish(config: SweepConfig, state: str, device_hours: float, console: Console) -> int:
    """Ranks what there is, says where it lies, and tells W&B and the webhook; returns the exit code.

    Args:
        config: The sweep.
        state: How it ended; see `sweeps.folder.manifest.Manifest`.
        device_hours: What it has cost.
        console: Where to print.
    """
    copy = WorkingCopy.of(config.place, DRIVER)
    folder, place = config.folder, config.place
    board = write_leaderboard(folder) if (folder / TRIALS_FILE).exists() else None
    if board:
        print_board(board, console)
    console.print(f"\n{state}: everything lies in {place}", highlight=False)
    if board:
        report = write_report(folder, board)
        copy.push(LEADERBOARD_FILE, report.name)
        console.print(f"report: {f'{place}/{report.name}' if copy.remote else report}", highlight=False)
    if board and board["winner"]:
        console.print(f"export the best checkpoint: python -m analysis.export {place} --to best", highlight=False)
    if state == "failed":
        console.print(f"when the cause is gone, continue it: python -m sweeps.run --resume {place}", highlight=False)
    elif state == "interrupted":
        console.print(f"continue it: python -m sweeps.run --resume {place}", highlight=False)
    elif state == "budget_spent":
        more = f"python -m sweeps.run --resume {place} budget.device_hours=MORE"
        console.print(f"the budget is spent; to go on: {more}", highlight=False)
    tell(config, news_of(config, state, board, device_hours), board, console)
    if state == "interrupted":
        return EXIT_INTERRUPTED
    return EXIT_DONE if state != "failed" and board and board["winner"] else EXIT_NO_TRIAL


def news_of(config: SweepConfig, state: str, board: Board | None, device_hours: float) -> News:
    """What is told of a sweep's end: JSON values, credentials hidden.

    Args:
        config: The sweep.
        state: How it ended, as in the manifest.
        board: Its leaderboard; None where no trial ended.
        device_hours: What it has cost, earlier starts included.

    Returns:
        `text` (one paragraph, for people; many chat tools show this key), `sweep`, `state`, `objective` (the
        statement), `verdict`, `winner`, `gain` (`value` and `interval`, nats a token over the base model, corrected for
        having been selected where that is known), `cost` (`device_hours`) and `folder`.
    """
    verdict = board["verdict"] if board else "no trial has ended"
    gain = (board or {}).get("winner_gain") or {}
    corrected = gain.get("corrected")
    news = {
        "sweep": config.name,
        "state": state,
        "objective": config.objective.statement,
        "verdict": verdict,
        "winner": board["winner"] if board else None,
        "gain": {"value": corrected, "interval": gain.get("corrected_interval")},
        "cost": {"device_hours": round(device_hours, 4)},
        "folder": config.place,
    }
    text = f"{config.name} ({state}): {verdict} Cost: {device_hours:.2f} device-hours. {config.place}"
    return dict(redact_all({"text": text, **news}))


def tell(config: SweepConfig, news: News, board: Board | None, console: Console) -> None:
    """Tells W&B and the webhook; what fails is a warning.

    Args:
        config: The sweep.
        news: What to tell.
        board: The leaderboard; None where no trial has ended.
        console: Where warnings are printed.
    """
    if config.wandb.mode != "disabled" and news["state"] != "interrupted":
        from sweeps.notify.wandb_summary import record_end

        try:
            failure = record_end(config.wandb, config.folder, news, board)
        except KeyboardInterrupt:  # an upload can take minutes, and the sweep itself is done
            failure = "interrupted"
        if failure:
            _warn(console, f"W&B lacks the sweep's summary run, or a part of it: {failure}")
    if (url := webhook.address(config.notify)) and (failure := webhook.post(url, news)):
        _warn(console, f"{webhook.WHERE} was not told: {failure}")


def _warn(console: Console, text: str) -> None:
    console.print(f"warning: {text}", soft_wrap=True, highlight=False, markup=False)
