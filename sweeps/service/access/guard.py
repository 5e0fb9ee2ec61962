"""Before every request: host, size, token, role, origin and rate; after every change: a line in the audit log."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.exceptions import HTTPException

from sweeps.service.access.head import (
    LARGEST_BODY,
    Refused,
    check_host,
    check_origin,
    check_repeats,
    check_size,
    token_of,
)
from sweeps.service.access.limiter import Limiter, Rate
from sweeps.service.access.users import USERS_FILE, Users
from trainables.errors import UserError
from trainables.redaction import HIDDEN
from trainables.storage.atomic import append_whole

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

OPEN = ("/health", "/login")  # without a token; the second takes one
READS = ("GET", "HEAD")
SLOWEST_BODY_SECONDS = 30.0  # for a request's whole body
SLOWEST_READER_SECONDS = 30.0  # for a client to take what it was sent
AUDIT_FILE = "audit.jsonl"
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
        self._said = ""
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
            check_repeats([name for name, _ in pairs])
            check_host(headers, self._hosts)
            check_size(headers)
            if scope["path"] not in OPEN:
                user = await self._user(scope, headers)
                self._check(scope, headers, user)
                scope.setdefault("state", {})["user"] = user
            elif scope["path"] == "/login":
                self._check_login(scope, headers)
            await self._app(scope, _bounded(receive), answer)
        except Refused as refused:
            await _refuse(refused, scope, headers, answer)
        except UserError as error:  # of users.yaml, which the admin is editing
            self._say(f"error: {error}")  # for the admin alone: it names users
            broken = Refused(503, USERS_FILE, "must be right", "a mistake in it", "see what the service has printed")
            await _refuse(broken, scope, headers, answer)
        except _SlowReader:
            return  # uvicorn closes the connection
        finally:
            if scope["method"] not in READS:
                await to_thread.run_sync(self._write, user, scope, status)

    async def _user(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> str:
        token, client = token_of(headers)[0], _client(scope)
        # A token that was right before costs no hash; all others are limited, for a hash takes a processor's time.
        user = self._users.remembered(token)
        if user is None and token:
            user = await asyncio.get_running_loop().run_in_executor(self._hashing, self._hashed, token, client)
        if user is None:
            got = "a wrong one" if token else "none"
            raise Refused(401, "token", "a request must carry a token", got, "send Authorization: Bearer TOKEN")
        return user

    def _hashed(self, token: str, client: str) -> str | None:
        if self._limiter.is_spent(("failed", client), FAILURE_RATE):
            raise Refused(429, "token", "has been wrong too often", "one more", "wait a minute")
        user = self._users.who(token)
        if user is None:
            self._limiter.passes(("failed", client), FAILURE_RATE)
        return user

    def _check(self, scope: MutableMapping[str, Any], headers: dict[str, str], user: str) -> None:
        changes = scope["method"] not in READS
        if not self._limiter.passes((user, changes), CHANGE_RATE if changes else READ_RATE):
            raise Refused(429, "requests", "must come slower", "one more", "wait a minute")
        if changes:
            if self._users.user(user).role == "reader" and scope["path"] != "/logout":
                raise Refused(403, "role", "must be user or admin", "reader", "ask the service's admin")
            check_origin(headers, by_cookie=token_of(headers)[1])

    def _check_login(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> None:
        if not self._limiter.passes(("login", _client(scope)), FAILURE_RATE):
            raise Refused(429, "login", "must come slower", "one more", "wait a minute")
        if "origin" in headers:
            check_origin(headers, by_cookie=False)

    def _write(self, user: str | None, scope: MutableMapping[str, Any], status: int) -> None:
        client = _client(scope)
        if user is None and not self._limiter.passes(("unknown", client), FAILURE_RATE):
            return  # else a stranger fills the disk
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        path = TOKEN.sub(HIDDEN, scope["path"])[:500]
        line = {"time": when, "user": user, "method": scope["method"][:20], "path": path, "status": status}
        try:
            append_whole(self._audit, (json.dumps({**line, "client": client}) + "\n").encode())
        except OSError as error:  # the request was answered: what remains is to tell the admin
            self._say(f"error: {self._audit}: must be writable, got {error.strerror}; {user} {line['method']} {path!r}")

    def _say(self, line: str) -> None:
        if line != self._said:
            print(line, file=sys.stderr, flush=True)
        self._said = line


def _client(scope: MutableMapping[str, Any]) -> str:
    return str((scope.get("client") or ("",))[0])


def _bounded(receive: Receive) -> Receive:
    # A body in chunks names no length, and may never end.
    taken, whole, deadline = 0, False, time.monotonic() + SLOWEST_BODY_SECONDS

    async def bounded() -> Message:
        nonlocal taken, whole
        if whole:  # what comes next is the client's leaving
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise HTTPException(408, f"a body that takes more than {SLOWEST_BODY_SECONDS:.0f} s") from None
        whole = not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > LARGEST_BODY:
            # The app's own kind of error: any other one, raised while it reads, would be a 400 to it.
            raise HTTPException(413, f"a body of more than {LARGEST_BODY:,} bytes")
        return message

    return bounded


async def _refuse(refused: Refused, scope: MutableMapping[str, Any], headers: dict[str, str], send: Send) -> None:
    body, kind = json.dumps({"errors": [f"error: {refused.error}"]}).encode(), b"application/json"
    # A browser that has no token gets the form for one.
    if refused.status == 401 and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        body, kind = LOGIN, b"text/html; charset=utf-8"
    about = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": about})
    await send({"type": "http.response.body", "body": body})
