"""The end of a sweep: ranking, report, exit code, and notifications."""

from __future__ import annotations

import shlex

from rich.console import Console

from analysis.cli import DONE, INTERRUPTED, NO_COMPLETE_TRIAL
from analysis.output.end_screen import print_end
from analysis.output.formats import cost_words
from analysis.output.leaderboard import Leaderboard as Leaderboard
from sweeps.config.sweep_config import SweepConfig
from sweeps.folder.sweep_store import SweepStore
from sweeps.notify import webhook
from sweeps.notify.messages import News, news_of_event
from trainables.storage.layout import TRIALS_FILE

ENDS = {
    "complete": "Done",
    "not_needed": "Done: no trial was needed",
    "budget_spent": "Stopped",
    "interrupted": "Interrupted",
    "failed": "Failed",
}


def finish(config: SweepConfig, store: SweepStore, state: str, device_hours: float, console: Console) -> int:
    """Ranks the trials, prints where the results are, notifies W&B and the webhook; returns the exit code.

    Args:
        config: The sweep.
        store: Its files.
        state: How it ended; see `sweeps.folder.manifest.Manifest`.
        device_hours: Its cost.
        console: Where to print.
    """
    # These import Optuna and scikit-learn, which a plan does without.
    from analysis.rank.leaderboard import write_leaderboard
    from analysis.report import write_report
    from sweeps.search.study import mark_study

    folder, place = config.folder, config.place
    pasted = shlex.quote(place)  # in commands, which users paste into a shell
    board = write_leaderboard(folder) if (folder / TRIALS_FILE).exists() else None
    if board:
        mark_study(folder, board)
        report = write_report(folder, board)
        store.publish_leaderboard(report.name)
        page = f"{place}/{report.name}" if store.remote else str(report)
        console.print()
        print_end(board, console, place, page, state)
    if (price := config.resources.price_per_device_hour) is not None:
        console.print(f"\nCost: {cost_words(device_hours, price)}.", highlight=False, soft_wrap=True)
    console.print(f"\n{ENDS.get(state, state)}. Results: {place}", highlight=False, soft_wrap=True)
    resume = f"python -m sweeps.run --resume {pasted}"
    next_steps = {
        "failed": f"when the cause is gone, continue it: {resume}",
        "interrupted": f"continue it: {resume}",
        "budget_spent": f"the budget is spent; to go on: {resume} budget.device_hours=MORE",
    }
    failed = [row["trial_id"] for row in board["rows"] if row["state"] == "failed"] if board else []
    if state in next_steps:
        console.print(next_steps[state], highlight=False, soft_wrap=True)
    elif failed:
        text = f"failed: {', '.join(failed)}; when the cause is gone, train them again: {resume}"
        console.print(text, highlight=False, soft_wrap=True)
    tell(config, news_of(config, state, board, device_hours), board, console)
    if state == "interrupted":
        return INTERRUPTED
    return DONE if state != "failed" and board and board["winner"] else NO_COMPLETE_TRIAL


def news_of(config: SweepConfig, state: str, board: Leaderboard | None, device_hours: float) -> News:
    """Summarizes a sweep's end for W&B and the webhook, as JSON values without credentials.

    Args:
        config: The sweep.
        state: How it ended, as in the manifest.
        board: Its leaderboard; None where no trial ended.
        device_hours: Its cost, earlier starts included.

    Returns:
        `text` (one paragraph), `event`, `sweep`, `state`, `objective` (the statement), `verdict`, `winner`, `gain`
        (`value` and `interval`, nats a token over the base model, corrected for selection where known), `cost`
        (`device_hours`, and `money` where `resources.price_per_device_hour` is known) and `folder`.
    """
    verdict = board["verdict"] if board else "No trial has finished."
    gain = board.get("winner_gain") if board else None
    price = config.resources.price_per_device_hour
    return news_of_event(
        config,
        "ended",
        f"{verdict} Cost: {cost_words(device_hours, price)}.",
        state,
        objective=config.objective.statement,
        verdict=verdict,
        winner=board["winner"] if board else None,
        gain={"value": gain and gain["corrected"], "interval": gain and gain["corrected_interval"]},
        cost={"device_hours": round(device_hours, 4), **({} if price is None else {"money": price * device_hours})},
    )


def tell(config: SweepConfig, news: News, board: Leaderboard | None, console: Console) -> None:
    """Notifies W&B and the webhook; a failure is only a warning.

    Args:
        config: The sweep.
        news: As returned by `news_of`.
        board: The leaderboard; None where no trial has ended.
        console: Where warnings are printed.
    """
    # An interrupted sweep goes on later; its summary run is written when it has ended.
    if config.wandb.mode != "disabled" and news["state"] != "interrupted":
        from sweeps.notify.wandb_summary import record_end

        try:
            alert = config.wandb.alert and "ended" in config.notify.events
            section = config.wandb.model_copy(update={"alert": alert})
            failure = record_end(section, config.folder, news, board)
        except KeyboardInterrupt:  # an upload can take minutes, and the sweep itself is done
            failure = "interrupted"
        if failure:
            _warn(console, f"W&B lacks the sweep's summary run, or a part of it: {failure}")
    url = webhook.address(config.notify) if "ended" in config.notify.events else None
    if url and (failure := webhook.post(url, news)):
        _warn(console, f"{webhook.WHERE} got no message: {failure}")


def _warn(console: Console, text: str) -> None:
    console.print(f"warning: {text}", soft_wrap=True, highlight=False, markup=False)
