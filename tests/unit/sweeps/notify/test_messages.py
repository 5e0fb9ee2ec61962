"""News of a running sweep: which are told, once, to whom, and that no server can slow or end the sweep."""

import threading
import time
from types import SimpleNamespace

import pytest

from analysis.output.formats import cost_words
from sweeps.config.sections import BudgetConfig, NotifyConfig
from sweeps.config.sweep_config import dump_config
from sweeps.notify import messages, wandb_summary
from sweeps.notify.__main__ import main as tell
from sweeps.notify.messages import Messenger, tell_now
from tests.unit.sweeps.notify.test_webhook import server
from trainables.config.sections import WandbConfig

ALL = ["queued", "started", "finding", "budget", "waiting", "ended"]


def config(events, url=None, cap=None, tmp_path=None, **wandb):
    notify = NotifyConfig(webhook=url, events=events)
    tracking = WandbConfig(**{"mode": "disabled", **wandb})
    parts = {"notify": notify, "budget": BudgetConfig(device_hours=cap), "wandb": tracking}
    return SimpleNamespace(name="demo", place="outputs/demo", folder=tmp_path, **parts)


def record(trial_id="t1", severity="error", rule="divergence"):
    finding = {"rule": rule, "severity": severity, "step": 7, "evidence": {}, "advice": "Lower the LR."}
    return {"trial_id": trial_id, "findings": [finding]}


def told(monkeypatch, events, act, cap=None):
    sent = []
    monkeypatch.setattr(messages, "send", lambda _config, news: sent.append(news) or [])
    with Messenger(config(events, cap=cap), pytest.fail) as messenger:
        act(messenger)
    return sent


@pytest.mark.parametrize(
    ("cap", "spent", "records", "expected"),
    [
        (10.0, 7.9, [], []),
        (10.0, 8.0, [], ["budget"]),
        (None, 8.0, [], []),
        (None, 0.0, [record()], ["finding"]),
        (None, 0.0, [record(severity="warning")], []),
        (10.0, 9.0, [record(), record("t2")], ["budget", "finding", "finding"]),
    ],
)
def test_what_is_told_and_that_it_is_told_once(monkeypatch, cap, spent, records, expected):
    def act(messenger):
        for _ in range(3):
            messenger.look(spent, records)

    sent = told(monkeypatch, ALL, act, cap)
    assert [news["event"] for news in sent] == expected
    assert not told(monkeypatch, ["ended"], act, cap), "by default only the end is told"


def test_news_are_posted_as_json_and_name_the_finding():
    with server() as (url, got), Messenger(config(["finding", "waiting"], url), pytest.fail) as messenger:
        messenger.look(0.0, [record()])
        messenger.tell("waiting", "no lane has resources yet")
    bodies = [body for _, _, body in got]
    assert [body["event"] for body in bodies] == ["finding", "waiting"]
    assert bodies[0]["text"] == "demo: t1: divergence at step 7. Lower the LR. outputs/demo"
    assert (bodies[0]["trial_id"], bodies[0]["finding"]["step"], bodies[0]["sweep"]) == ("t1", 7, "demo")


def test_a_server_that_hangs_or_fails_neither_slows_nor_ends_the_sweep(monkeypatch):
    release, warned = threading.Event(), []

    def hang(_config, _news):
        release.wait(10)
        raise RuntimeError("gone")

    monkeypatch.setattr(messages, "send", hang)
    with Messenger(config(ALL), warned.append) as messenger:
        before = time.monotonic()
        messenger.tell("started", "on 2 lanes")
        messenger.tell("waiting", "for 1 GPU")
        assert time.monotonic() - before < 1
        release.set()
    assert warned == ["news could not be sent: RuntimeError: gone"], "the same line is said once"


def test_an_alert_of_wandb_is_sent_where_it_is_online(monkeypatch, tmp_path):
    alerts = []

    class Run:
        def alert(self, title, text):
            alerts.append((title, text))

        def finish(self):
            alerts.append("finished")

    monkeypatch.setattr(wandb_summary.wandb_client, "set_up", lambda: None)
    monkeypatch.setattr(wandb_summary.wandb_client, "resolve_mode", lambda mode: mode)
    monkeypatch.setattr(wandb_summary.wandb_client, "open_run", lambda *_, **__: (Run(), ""))
    asked = {"tmp_path": tmp_path, "alert": True}
    assert tell_now(config(["queued"], mode="online", **asked), "queued", "handed to a queue.") == []
    assert alerts == [("demo: queued", "demo: handed to a queue. outputs/demo"), "finished"]
    assert tell_now(config(["queued"], mode="offline", **asked), "queued", "x") == []
    assert tell_now(config(["ended"], mode="online", **asked), "queued", "x") == []
    assert len(alerts) == 2


def test_a_process_of_its_own_tells_news_and_says_what_went_wrong(load, tmp_path, capsys):
    with server() as (url, got):
        path = tmp_path / "sent.yaml"
        path.write_text(dump_config(load(f"notify.webhook={url}", "notify.events=[queued]", "wandb.mode=disabled")))
        assert tell(str(path), "queued", "it is in the queue.") == 0
        assert tell(str(path), "started", "nobody asked.") == 0
    ((_, _, body),) = got
    assert (body["event"], body["text"]) == ("queued", f"small: it is in the queue. {tmp_path}/small")
    assert tell(str(path), "queued", "it is in the queue.") == 1
    assert capsys.readouterr().err.startswith("warning: notify.webhook got no message: http://127.0.0.1/")


@pytest.mark.parametrize(
    ("hours", "price", "words"),
    [
        (3.2, None, "3.20 device-hours"),
        (3.2, 2.5, "3.20 device-hours (8.00 at 2.5 each)"),
        (0.0, 4.0, "0.00 device-hours (0.00 at 4 each)"),
    ],
)
def test_cost_is_said_in_money_where_a_price_is_known(hours, price, words):
    assert cost_words(hours, price) == words
