"""Before every request: host, size, token, role, origin and rate; after every change: a line in the audit log."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.exceptions import HTTPException

from sweeps.service.access.limiter import Limiter, Rate
from sweeps.service.access.users import Users
from trainables.errors import UserError
from trainables.redaction import HIDDEN
from trainables.storage.atomic import append_whole

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

OPEN = ("/health", "/login")  # without a token; the second takes one
READS = ("GET", "HEAD")
COOKIE = "llm-sweeps"
LARGEST_BODY = 256 * 1024
SLOWEST_BODY_SECONDS = 30.0  # for each part of a request's body
SLOWEST_READER_SECONDS = 30.0  # for a client to take what it was sent
AUDIT_FILE = "audit.jsonl"
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:]+)(?::\d{1,5})?", re.IGNORECASE)
ONCE = ("host", "origin", "authorization", "cookie", "content-length")  # two readers of two could choose differently
TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}")  # as `Users.add` makes them

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with none, browsers send the forms' origin as null
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
}
LOGIN = b"""<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,">
<title>llm-sweeps</title><form method="post" action="/login"><label>Token
<input type="password" name="token" autocomplete="current-password" autofocus></label>
<button>Log in</button></form></html>"""


READ_RATE, CHANGE_RATE, FAILURE_RATE = Rate(100, 400), Rate(1, 60), Rate(0.5, 30)


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    def __init__(self, status: int, where: str, rule: str, got: str, remedy: str) -> None:
        self.status, self.error = status, UserError(where, rule, got, remedy)


class _SlowReader(Exception):  # noqa: N818 - nobody is left to be answered
    pass


class Guard:
    """ASGI middleware; lets a request through with its user in `scope["state"]["user"]`.

    Args:
        app: What is guarded.
        users: Who may use it.
        hosts: Names by which the service may be called. Other names lead here only by a page that rebinds its own.
        folder: Where the audit log lies.
    """

    def __init__(self, app: Any, users: Users, hosts: set[str], folder: Path) -> None:
        self._app, self._users, self._hosts = app, users, hosts
        self._audit = folder / AUDIT_FILE
        self._limiter = Limiter()
        # One thread: of many wrong tokens at one moment, each finds those before it counted. A hash takes 16 MiB, which
        # the allocator keeps for each thread: with all threads of the server it was 640.
        self._hashing = ThreadPoolExecutor(1, "tokens")

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        headers = dict(pairs)
        user, status = None, 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                added = [(name.encode(), text.encode()) for name, text in HEADERS.items() if name.encode() not in own]
                message["headers"] = [*message["headers"], *added]
            # Without this limit a client that never reads would keep its stream for ever.
            try:
                await asyncio.wait_for(send(message), SLOWEST_READER_SECONDS)
            except TimeoutError:  # an OSError, which the app would answer
                raise _SlowReader from None

        try:
            _check_repeats([name for name, _ in pairs])
            self._check_host(headers)
            _check_size(headers)
            if scope["path"] not in OPEN:
                user = await self._user(scope, headers)
                self._check(scope, headers, user)
                scope.setdefault("state", {})["user"] = user
            elif scope["path"] == "/login":
                self._check_login(scope, headers)
            await self._app(scope, _bounded(receive), answer)
        except _Refused as refused:
            await _refuse(refused, scope, headers, answer)
        except UserError as error:  # of users.yaml, which the admin is editing
            broken = _Refused(503, error.where, error.rule, error.got, error.remedy)
            await _refuse(broken, scope, headers, answer)
        except _SlowReader:
            return  # uvicorn closes the connection
        finally:
            if scope["method"] not in READS:
                await to_thread.run_sync(self._write, user, scope, status)

    def _check_host(self, headers: dict[str, str]) -> None:
        given = headers.get("host", "")
        found = HOST.fullmatch(given)
        if not found or found[1].strip("[]").lower() not in self._hosts:
            remedy = "start the service with --name NAME for each of its names"
            raise _Refused(400, "Host", "must be a name of this service", given[:100], remedy)

    async def _user(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> str:
        token, client = _token(headers), (scope.get("client") or ("",))[0]
        # A token that was right before costs no hash; all others are limited, for a hash takes a processor's time.
        user = self._users.remembered(token)
        if user is None and token:
            user = await asyncio.get_running_loop().run_in_executor(self._hashing, self._hashed, token, client)
        if user is None:
            got = "a wrong one" if token else "none"
            raise _Refused(401, "token", "a request must carry a token", got, "send Authorization: Bearer TOKEN")
        return user

    def _hashed(self, token: str, client: str) -> str | None:
        if self._limiter.is_spent(("failed", client), FAILURE_RATE):
            raise _Refused(429, "token", "has been wrong too often", "one more", "wait a minute")
        user = self._users.who(token)
        if user is None:
            self._limiter.passes(("failed", client), FAILURE_RATE)
        return user

    def _check(self, scope: MutableMapping[str, Any], headers: dict[str, str], user: str) -> None:
        changes = scope["method"] not in READS
        if not self._limiter.passes((user, changes), CHANGE_RATE if changes else READ_RATE):
            raise _Refused(429, "requests", "must come slower", "one more", "wait a minute")
        if changes:
            if self._users.user(user).role == "reader":
                raise _Refused(403, "role", "must be user or admin", "reader", "ask the service's admin")
            _check_origin(headers, by_cookie="authorization" not in headers)

    def _check_login(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> None:
        if not self._limiter.passes(("login", (scope.get("client") or ("",))[0]), FAILURE_RATE):
            raise _Refused(429, "login", "must come slower", "one more", "wait a minute")
        if "origin" in headers:
            _check_origin(headers, by_cookie=False)

    def _write(self, user: str | None, scope: MutableMapping[str, Any], status: int) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        client = (scope.get("client") or ("",))[0]
        path = TOKEN.sub(HIDDEN, scope["path"])[:500]
        line = {"time": when, "user": user, "method": scope["method"], "path": path, "status": status}
        append_whole(self._audit, (json.dumps({**line, "client": client}) + "\n").encode())


def _token(headers: dict[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _check_origin(headers: dict[str, str], *, by_cookie: bool) -> None:
    """Refuses changes that another site's page sends; a browser names the page's origin in each."""
    origin = headers.get("origin")
    if origin is None and not by_cookie:
        return  # a script with a token of its own
    if (origin or "").partition("://")[2].lower() != headers.get("host", "").lower():
        raise _Refused(403, "Origin", "must be this service", (origin or "none")[:100], "use the service's own page")


def _check_repeats(names: list[str]) -> None:
    for name in ONCE:
        if names.count(name) > 1:
            raise _Refused(400, name, "must stand once", f"{names.count(name)} of them", "send one")


def _check_size(headers: dict[str, str]) -> None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or len(length) > 12 or int(length) > LARGEST_BODY:
        raise _Refused(413, "body", f"must have at most {LARGEST_BODY:,} bytes", length[:20], "shorten it")


def _bounded(receive: Receive) -> Receive:
    # A body in chunks names no length, and may never end.
    taken, whole = 0, False

    async def bounded() -> Message:
        nonlocal taken, whole
        if whole:  # what comes next is the client's leaving
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), SLOWEST_BODY_SECONDS)
        except TimeoutError:
            raise HTTPException(408, f"no part of the body in {SLOWEST_BODY_SECONDS:.0f} s") from None
        whole = not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > LARGEST_BODY:
            # The app's own kind of error: any other one, raised while it reads, would be a 400 to it.
            raise HTTPException(413, f"a body of more than {LARGEST_BODY:,} bytes")
        return message

    return bounded


async def _refuse(refused: _Refused, scope: MutableMapping[str, Any], headers: dict[str, str], send: Send) -> None:
    body, kind = json.dumps({"errors": [f"error: {refused.error}"]}).encode(), b"application/json"
    # A browser that has no token gets the form for one.
    if refused.status == 401 and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        body, kind = LOGIN, b"text/html; charset=utf-8"
    about = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": about})
    await send({"type": "http.response.body", "body": body})
