"""A POST to an address of the user's when a sweep has ended. Its failure is a warning and never the sweep's."""

from __future__ import annotations

import ipaddress
import json
import os
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from sweeps.config.sections import FROM_ENVIRONMENT, NotifyConfig
from trainables.errors import UserError

TIMEOUT_SECONDS = 10.0
"""Longest time for the whole POST: a server that drips its answer is left behind. Ours."""

WHERE = "notify.webhook"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another address than the one that was checked is not followed."""

    def redirect_request(self, *_: Any) -> None:
        """Leaves the redirect as the answer, which is an error."""
        return


def address(notify: NotifyConfig) -> str | None:
    """Where to post; None for nowhere.

    Args:
        notify: `webhook` is the address, or `env:NAME` where an environment variable holds it.

    Raises:
        UserError: The variable is not set, or the address is not https (or http on this machine) and that was not
            asked for. The error names no more of the address than its host.
    """
    if notify.webhook is None:
        return None
    url, shown = notify.webhook, notify.webhook
    if url.startswith(FROM_ENVIRONMENT):
        name = url.removeprefix(FROM_ENVIRONMENT)
        if not (url := os.environ.get(name, "")):
            raise UserError(WHERE, "must name an environment variable that is set", name, f"export {name}=https://…")
        shown = host(url)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(WHERE, "must be an address with https", shown, "write https://HOST/PATH")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname) and not notify.insecure:
        rule, remedy = "must be https: http can be read on its way", "use https, or set notify.insecure=true"
        raise UserError(WHERE, rule, shown, remedy)
    return url


def host(url: str) -> str:
    """What of an address can be shown: its path and query may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}/…" if parts.hostname else "an address without a host"


def post(url: str, news: dict[str, Any], timeout_seconds: float = TIMEOUT_SECONDS) -> str | None:
    """Posts the news as JSON, once.

    Args:
        url: From `address`.
        news: JSON values.
        timeout_seconds: Longest time in all.

    Returns:
        What went wrong, as one line without the address's secret parts; None if the server said that it took it.
    """
    failure = [f"no answer in {timeout_seconds:g} s"]

    def send() -> None:
        failure[0] = _send(url, news, timeout_seconds) or ""

    thread = threading.Thread(target=send, daemon=True, name="webhook")
    thread.start()
    thread.join(timeout_seconds)
    return f"{host(url)}: {failure[0]}" if failure[0] else None


def _send(url: str, news: dict[str, Any], timeout_seconds: float) -> str | None:
    head = {"Content-Type": "application/json", "User-Agent": "llm-sweeps"}
    request = urllib.request.Request(url, json.dumps(news).encode(), head, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_seconds):
            return None
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except (OSError, ValueError) as error:  # URLError, time-outs and http.client's are OSError or ValueError
        return f"{type(error).__name__}: {getattr(error, 'reason', '') or 'no answer'}"


def _is_this_machine(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
