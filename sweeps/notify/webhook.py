"""A POST to the user's address when a sweep has ended. Its failure is a warning and never the sweep's."""

from __future__ import annotations

import ipaddress
import json
import os
from typing import Any
from urllib.parse import urlsplit

from sweeps.config.sections import FROM_ENVIRONMENT, NotifyConfig
from trainables.errors import UserError
from trainables.storage.json_numbers import finite

TIMEOUT_SECONDS = 10.0  # for each of: connecting, sending, waiting for the answer's head

WHERE = "notify.webhook"


def address(notify: NotifyConfig) -> str | None:
    """The address to post to; None for nowhere.

    Args:
        notify: `webhook` is the address, or `env:NAME` where an environment variable holds it.

    Raises:
        UserError: The variable is not set, or the address is not https (or http on this machine) and that was not
            asked for. The error names no more of the address than its host.
    """
    if notify.webhook is None:
        return None
    url = notify.webhook
    if url.startswith(FROM_ENVIRONMENT):
        name = url.removeprefix(FROM_ENVIRONMENT)
        if not (url := os.environ.get(name, "")):
            raise UserError(WHERE, "must name an environment variable that is set", name, f"export {name}=https://…")
    shown = _host(url)
    scheme, host = _parts(url)
    if scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise UserError(WHERE, "must be an address with https", shown, "write https://HOST/PATH")
    if scheme == "http" and not _is_this_machine(host) and not notify.insecure:
        rule, remedy = "must be https: http can be read on its way", "use https, or set notify.insecure=true"
        raise UserError(WHERE, rule, shown, remedy)
    return url


def post(url: str, news: dict[str, Any], timeout_seconds: float = TIMEOUT_SECONDS) -> str | None:
    """Posts JSON values, once, to a URL from `address`.

    Returns:
        What went wrong, as one line without the address's secret parts; None if the server answered with success.
    """
    import httpx  # takes 0.1 s, which `--plan` needs not spend

    head = {"User-Agent": "llm-sweeps", "Content-Type": "application/json"}
    try:
        # Streamed: only the head of the answer is read, so a server can't hold the sweep with an endless body. httpx
        # follows no redirect: its target was never checked.
        content = json.dumps(finite(news)).encode()  # ASCII: a text may hold what UTF-8 can't
        with httpx.stream("POST", url, content=content, headers=head, timeout=timeout_seconds) as answer:
            return None if answer.is_success else f"{_host(url)}: status {answer.status_code}"
    except httpx.TimeoutException:
        return f"{_host(url)}: no answer in {timeout_seconds:g} s"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        # The text of other errors may quote the address, whose path may be the secret.
        reason = str(error) if isinstance(error, httpx.NetworkError) else ""
        return f"{_host(url)}: {type(error).__name__}: {reason or 'no answer'}"


def _host(url: str) -> str:
    scheme, host = _parts(url)
    return f"{scheme}://{host}/…" if host else "an address without a host"


def _parts(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
        return parts.scheme, parts.hostname or ""
    except ValueError:  # brackets around what is no IPv6 address
        return "", ""


def _is_this_machine(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
