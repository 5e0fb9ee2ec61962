"""The webhook, against servers on this machine: what is sent, what is refused, what fails and how long that takes."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sweeps.config.sections import NotifyConfig
from sweeps.notify import webhook
from sweeps.notify.__main__ import main
from trainables.errors import UserError

SMOKE = Path(__file__).parents[4] / "conf" / "smoke.yaml"
NEWS = {"text": "done", "verdict": "Winner: t1", "gain": {"value": 0.5, "interval": [0.4, 0.6]}, "cost": {}}
SECRET = "/hook/T0SECRETSECRET"


@contextmanager
def server(status=200, headers=()):
    """A server on this machine that answers every POST with a status, and keeps what came."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, self.headers["content-type"], json.loads(body)))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_):
            """Keeps the test output clean."""

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}", got
    finally:
        http.shutdown()
        http.server_close()


@pytest.mark.parametrize(("status", "said"), [(200, None), (404, "status 404"), (500, "status 500")])
def test_the_news_are_posted_as_json_and_an_error_is_reported_without_the_secret_path(status, said):
    with server(status) as (url, got):
        assert webhook.post(url + SECRET, NEWS) == (said and f"http://127.0.0.1/…: {said}")
    assert got == [(SECRET, "application/json", NEWS)]


def test_a_server_that_is_gone_or_silent_costs_a_bounded_time():
    with server() as (url, _):
        pass
    assert webhook.post(url + SECRET, NEWS).startswith("http://127.0.0.1/…: ConnectError: ")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert webhook.post(url + SECRET, NEWS, timeout_seconds=0.3) == "http://127.0.0.1/…: no answer in 0.3 s"


def test_a_redirect_is_not_followed_odd_news_arrive_and_a_bad_address_is_one_line_without_the_secret():
    with server() as (elsewhere, got), server(307, [("Location", elsewhere)]) as (url, _):
        assert webhook.post(url, NEWS) == "http://127.0.0.1/…: status 307"
        assert got == []
        assert webhook.post(elsewhere + SECRET, {"gain": float("nan"), "text": "\ud800"}) is None
    assert got == [(SECRET, "application/json", {"gain": None, "text": "\ud800"})]
    assert webhook.post(f"http://127.0.0.1{SECRET}\0", NEWS) == "http://127.0.0.1/…: InvalidURL: no answer"


@pytest.mark.parametrize(
    ("url", "insecure"),
    [
        (None, False),
        ("https://example.org/hook", False),
        ("http://127.0.0.1:8000/hook", False),
        ("http://localhost/hook", False),
        ("http://[::1]:80/hook", False),
        ("http://example.org/hook", True),
    ],
)
def test_addresses_that_are_taken(url, insecure, monkeypatch):
    assert webhook.address(NotifyConfig(webhook=url, insecure=insecure)) == url
    monkeypatch.setenv("SWEEP_HOOK", url or "https://example.org")
    assert webhook.address(NotifyConfig(webhook=url and "env:SWEEP_HOOK", insecure=insecure)) == url


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://example.org/hook", "must be https"),
        ("http://localhost.example.org/hook", "must be https"),
        ("http://127.0.0.1.example.org/hook", "must be https"),
        ("ftp://example.org/hook", "must be an address with https"),
        ("file:///etc/passwd", "must be an address with https"),
        ("example.org/hook", "must be an address with https"),
        ("https://[::1/hook", "must be an address with https"),
        ("https://example.org:port/hook", "must be an address with https"),
        ("https://example.org/a\nb", "must be an address with https"),
        ("https://example .org/", "must be an address with https"),
        ("env:NOT_SET_ANYWHERE", "must name an environment variable that is set, got NOT_SET_ANYWHERE"),
        ("env:SWEEP_HOOK", ".*http://example.org/…"),
        ("http://example.org" + SECRET, ".*http://example.org/…"),
        ("https://example.org:port" + SECRET, "must be an address with https, got an address without a host"),
    ],
)
def test_addresses_that_are_refused_and_how_little_of_them_is_shown(url, rule, monkeypatch):
    monkeypatch.setenv("SWEEP_HOOK", "http://example.org" + SECRET)
    with pytest.raises(UserError, match=f"notify.webhook: {rule}") as refused:
        webhook.address(NotifyConfig(webhook=url))
    assert SECRET not in str(refused.value)


def test_news_of_a_queued_sweep_that_can_not_be_sent_are_a_warning_without_a_traceback(tmp_path, capsys):
    config = tmp_path / "sweep.yaml"
    config.write_text(SMOKE.read_text() + "\nnotify: {webhook: env:NOT_SET_ANYWHERE, events: [queued]}\n")
    assert main(str(config), "queued", "it is in the queue.") == 1
    assert main(str(tmp_path / "deleted.yaml"), "queued", "it is in the queue.") == 1
    warnings = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in warnings] == ["warning", "warning"]
