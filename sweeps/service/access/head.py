"""What a request's head must be: its host, origin, size, and where its token stands."""

from __future__ import annotations

import re

from starlette.requests import cookie_parser

from trainables.errors import UserError

COOKIE = "llm-sweeps"
LARGEST_BODY = 256 * 1024
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:]+)(?::\d{1,5})?", re.IGNORECASE)
ONCE = ("host", "origin", "authorization", "cookie", "content-length")  # two readers of two could choose differently


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request that goes no further: the answer's status and line."""

    def __init__(self, status: int, where: str, rule: str, got: str, remedy: str) -> None:
        self.status, self.error = status, UserError(where, rule, got, remedy)


def check_host(headers: dict[str, str], hosts: set[str]) -> None:
    """Refuses a name that is none of the service's: a page that rebinds its own name leads here by it."""
    given = headers.get("host", "")
    found = HOST.fullmatch(given)
    if not found or found[1].strip("[]").lower() not in hosts:
        remedy = "start the service with --name NAME for each of its names"
        raise Refused(400, "Host", "must be a name of this service", given[:100], remedy)


def token_of(headers: dict[str, str]) -> tuple[str, bool]:
    """The token, and whether a cookie holds it: a browser sends that for any page."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip(), False
    # As browsers' servers read it: cookies of other programs on this machine's other ports come along, of any form.
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, ""), True


def check_origin(headers: dict[str, str], *, by_cookie: bool) -> None:
    """Refuses changes that another site's page sends; a browser names the page's origin in each."""
    origin = headers.get("origin")
    if origin is None and not by_cookie:
        return  # a script with a token of its own
    if (origin or "").partition("://")[2].lower() != headers.get("host", "").lower():
        raise Refused(403, "Origin", "must be this service", (origin or "none")[:100], "use the service's own page")


def check_repeats(names: list[str]) -> None:
    """Refuses a header that stands twice, where it must not."""
    for name in ONCE:
        if names.count(name) > 1:
            raise Refused(400, name, "must stand once", f"{names.count(name)} of them", "send one")


def check_size(headers: dict[str, str]) -> None:
    """Refuses a body that says it is too large, or whose size is no number."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or len(length) > 12 or int(length) > LARGEST_BODY:
        raise Refused(413, "body", f"must have at most {LARGEST_BODY:,} bytes", length[:20], "shorten it")
