"""News of a sweep that runs, by webhook and W&B: sent from a thread of its own, so no server can slow the sweep."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from sweeps.config.sections import NewsEvent
from sweeps.config.sweep_config import SweepConfig
from sweeps.notify import webhook
from trainables.redaction import redact_all

ALMOST_SPENT = 0.8  # of `budget.device_hours`; ours: there is time left to raise it
CLOSE_SECONDS = 2 * webhook.TIMEOUT_SECONDS

News = dict[str, Any]


def news_of_event(config: SweepConfig, event: NewsEvent, text: str, state: str = "", **more: Any) -> News:
    """What is posted of an event, as JSON values without credentials.

    Args:
        config: The sweep.
        event: The event.
        text: Sentences.
        state: How the sweep has ended, if it has.
        more: Further keys.

    Returns:
        `text` (one paragraph), `event`, `sweep`, `folder`, `state` if there is one, and more.
    """
    subject = f"{config.name} ({state})" if state else config.name
    more |= {"state": state} if state else {}
    # Many chat tools show the key `text` of what is posted to their webhook.
    told = {"text": f"{subject}: {text} {config.place}", "event": event, "sweep": config.name}
    return dict(redact_all({**told, "folder": config.place, **more}))


def send(config: SweepConfig, news: News) -> list[str]:
    """Posts news to the webhook and as an alert of W&B, where the config asks for them; returns what went wrong.

    `wandb.alert` asks for alerts; only a W&B that is online sends them.
    """
    failures = []
    url = webhook.address(config.notify)
    if url and (failure := webhook.post(url, news)):
        failures.append(f"{webhook.WHERE} got no message: {failure}")
    if config.wandb.alert and config.wandb.mode != "disabled":
        from sweeps.notify.wandb_summary import alert

        if failure := alert(config.wandb, config.folder, config.name, news):
            failures.append(f"W&B sent no alert: {failure}")
    return failures


def tell_now(config: SweepConfig, event: NewsEvent, text: str, **more: Any) -> list[str]:
    """Sends news of an event, if `notify.events` has it, and waits for the servers; returns what went wrong."""
    return send(config, news_of_event(config, event, text, **more)) if event in config.notify.events else []


class Messenger:
    """Tells what happens to a running sweep, each thing once. No method waits for a server, none raises.

    Args:
        config: The sweep; `notify.events` says what is told.
        warn: Takes a line where news could not be sent; the same line is said once.
    """

    def __init__(self, config: SweepConfig, warn: Callable[[str], None]) -> None:
        self._config, self._warn = config, warn
        self._queue: queue.SimpleQueue[News | None] = queue.SimpleQueue()
        self._told: set[str] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._send_all, daemon=True, name="messenger")

    def __enter__(self) -> Messenger:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)
        self._closed.set()  # what is not sent by now is left: the sweep's end opens the run that alerts are of

    def tell(self, event: NewsEvent, text: str, once: str = "", **more: Any) -> None:
        """Sends news of an event, if the config asks for such.

        Args:
            event: The event.
            text: A sentence.
            once: What tells this from other news of the same event: the same is told once.
            more: Keys to post, with JSON values.
        """
        if event in self._config.notify.events and f"{event} {once}" not in self._told:
            self._told.add(f"{event} {once}")
            self._queue.put(news_of_event(self._config, event, text, **more))

    def look(self, spent_hours: float, records: Iterable[Mapping[str, Any]]) -> None:
        """Tells of a budget that is almost spent, and of findings of severity error.

        Args:
            spent_hours: Device-hours so far.
            records: Trials that have ended.
        """
        cap = self._config.budget.device_hours
        if cap is not None and spent_hours >= ALMOST_SPENT * cap:
            text = f"{spent_hours:.2f} of {cap:g} device-hours are spent; then the sweep ends (budget.device_hours)."
            self.tell("budget", text, device_hours=round(spent_hours, 4), cap=cap)
        for record in records:
            for finding in record["findings"]:
                once = f"{record['trial_id']} {finding['rule']}"
                if finding["severity"] == "error":
                    text = f"{record['trial_id']}: {finding['rule']} at step {finding['step']}. {finding['advice']}"
                    self.tell("finding", text, once, trial_id=record["trial_id"], finding=dict(finding))

    def _send_all(self) -> None:
        warned: set[str] = set()
        while (news := self._queue.get()) is not None and not self._closed.is_set():
            try:
                failures = send(self._config, news)
            except Exception as error:  # noqa: BLE001 - no news may end the sweep
                failures = [f"news could not be sent: {type(error).__name__}: {error}"]
            for failure in failures:
                if failure not in warned:
                    warned.add(failure)
                    self._warn(failure)
