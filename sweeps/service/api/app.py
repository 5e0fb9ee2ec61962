"""The service's API. `Guard` has let a request through; here a user's own sweeps are told from those of others."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Body, Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from analysis.list import chosen
from sweeps.config.differences import differences
from sweeps.config.sweep_config import load_config
from sweeps.service.access.guard import Guard
from sweeps.service.access.users import Users
from sweeps.service.api.errors import ForbiddenError, Lines, add_errors
from sweeps.service.api.requests import Cloned, Filters, Priority, Sent
from sweeps.service.page.page import add_pages
from sweeps.service.queue.entries import Entry
from sweeps.service.queue.queue import ConflictError, Queue
from sweeps.service.runs.processes import Command, sweeps_run
from sweeps.service.runs.removal import Removal
from sweeps.service.runs.submission import SENT_AT_ONCE, Submissions
from sweeps.service.runs.trials import drop_trial
from sweeps.service.view.rows import STATES
from sweeps.service.view.view import View
from trainables.errors import UserError
from trainables.redaction import HIDDEN
from trainables.storage.layout import SWEEP_FILE

# A report is made of users' texts: it runs as a page of no site, and reaches nothing.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; frame-ancestors 'none'"
)
WEBHOOK = "notify.webhook"
READING_AT_ONCE = 8  # threads


def user_of(request: Request) -> str:
    """The name of the user who asks, by the token."""
    return str(request.state.user)


Asking = Annotated[str, Depends(user_of)]


def make_app(storage: Path, queue: Queue, users: Users, hosts: set[str], command: Command = sweeps_run) -> Guard:
    """The service as an ASGI app.

    Args:
        storage: Folder of the sweeps.
        queue: The service's queue.
        users: Its users.
        hosts: Names by which it may be called.
        command: Makes the command line of a plan.
    """
    # No redirects for a slash too many: they name http, and a proxy's clients would follow with their token in clear.
    app = FastAPI(
        title="llm-sweeps", docs_url=None, redoc_url=None, default_response_class=Lines, lifespan=_with_few_threads,
        redirect_slashes=False,
    )  # fmt: skip
    view, submissions = View(storage, queue), Submissions(queue, storage, users, command)
    add_errors(app)
    _add_reading(app, view, users)
    _add_sending(app, view, submissions)
    _add_changes(app, view, queue, users, Removal(queue, storage))
    add_pages(app, view, users)
    return Guard(app, users, hosts, queue.folder)


@asynccontextmanager
async def _with_few_threads(_: FastAPI) -> AsyncIterator[None]:
    # Those that plan wait for minutes. More of the others answer no faster, as one thread of Python runs at a time, and
    # the allocator keeps memory for each.
    to_thread.current_default_thread_limiter().total_tokens = SENT_AT_ONCE + READING_AT_ONCE
    yield


def _add_reading(app: FastAPI, view: View, users: Users) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/sweeps")
    def sweeps(given: Annotated[Filters, Query()]) -> list[dict[str, Any]]:
        return chosen(view.rows(), given.model, given.data, given.state, given.since, STATES)

    @app.get("/sweeps/{name}")
    def sweep(name: str) -> dict[str, Any]:
        return {**view.row(name), "trial_ids": view.trials(name)}

    @app.get("/sweeps/{name}/trials/{trial}/curve")
    def curve(name: str, trial: str) -> list[dict[str, Any]]:
        return view.curve(name, trial)

    @app.get("/sweeps/{name}/leaderboard")
    def leaderboard(name: str) -> dict[str, Any]:
        return view.leaderboard(name)

    @app.get("/sweeps/{name}/report")
    def report(name: str) -> FileResponse:
        headers = {"content-security-policy": REPORT_POLICY}
        return FileResponse(view.report(name), media_type="text/html", headers=headers)

    @app.get("/sweeps/{name}/events")
    async def events(name: str, user: Asking) -> StreamingResponse:
        token = users.user(user).token

        def may_watch() -> bool:
            found = users.read().users.get(user)
            return found is not None and found.token == token

        return StreamingResponse(await view.events(user, name, may_watch), media_type="text/event-stream")

    @app.get("/queue")
    def queue() -> list[dict[str, Any]]:
        return view.waiting(users.parts())


def _add_sending(app: FastAPI, view: View, submissions: Submissions) -> None:
    def send(
        user: str, client_id: str | None, text: str, overrides: list[str], response: Response
    ) -> tuple[dict[str, Any], Entry]:
        sent_as = client_id or secrets.token_hex(16)
        reply, entry, new = submissions.send(user, sent_as, text, overrides)
        response.status_code = 201 if new else 200
        return {"id": entry.name, "state": entry.outcome or entry.state, **reply}, entry

    @app.post("/plan")
    def plan(sent: Sent, user: Asking) -> dict[str, Any]:
        return submissions.preview(submissions.config(user, sent.config, sent.overrides))

    @app.post("/sweeps", status_code=201)
    def post(sent: Sent, user: Asking, response: Response) -> dict[str, Any]:
        return send(user, sent.client_id, sent.config, sent.overrides, response)[0]

    @app.post("/sweeps/{name}/clone", status_code=201)
    def clone(name: str, cloned: Cloned, user: Asking, response: Response) -> dict[str, Any]:
        view.row(name)
        entry = submissions.queue.get(name)
        if entry and (entry.name != name or (entry.left_nothing and (view.storage / name).is_dir())):
            entry = None  # the folder is another sweep's
        # One that has not begun has no folder yet.
        path = submissions.queue.config(entry) if entry else view.file(name, SWEEP_FILE)
        overrides = [f"name={cloned.name}", *cloned.overrides]
        own = entry is not None and entry.user == user
        if not own:
            overrides.insert(0, f"{WEBHOOK}=null")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(name, f"{SWEEP_FILE} must be UTF-8", error.reason, "restore the file") from None
        if cloned.plan_only:
            config = submissions.config(user, text, overrides)
            reply = submissions.preview(config)
            response.status_code = 200
        else:
            reply, queued = send(user, cloned.client_id, text, overrides, response)
            config = load_config(submissions.queue.config(queued))
        before, after = (one.model_dump(mode="json") for one in (load_config(path), config))
        changes = {key: [old, new] for key, old, new in differences(before, after)}
        if not own and WEBHOOK in changes:  # the owner's address, which may be a secret
            changes[WEBHOOK][0] = HIDDEN
        return {**reply, "changes": changes}


def _add_changes(app: FastAPI, view: View, queue: Queue, users: Users, removal: Removal) -> None:
    def own(name: str, user: str) -> Entry:
        entry = queue.get(name)
        if entry is None or entry.name != name:
            view.row(name)  # or there is no such sweep at all
            raise ConflictError(
                name, "must have been sent to this service", "a sweep of the command line", "stop it there"
            )
        if entry.user != user and users.user(user).role != "admin":
            raise ForbiddenError(name, "must be your own", f"a sweep of {entry.user}", "ask its owner, or an admin")
        return entry

    def change(what: Callable[[str], Entry]) -> Callable[..., dict[str, Any]]:
        def changed(name: str, user: Asking) -> dict[str, Any]:
            entry = what(own(name, user).name)
            return {"id": entry.name, "state": entry.outcome or entry.state, "asked": entry.asked or None}

        return changed

    for word, what in {"stop": queue.stop, "pause": queue.pause, "resume": queue.resume}.items():
        app.post(f"/sweeps/{{name}}/{word}", name=word)(change(what))

    @app.delete("/sweeps/{name}")
    def remove(name: str, user: Asking) -> dict[str, Any]:
        entry = removal.remove(own(name, user), user)
        view.forget()
        return {"id": entry.name, "state": entry.state}

    @app.post("/sweeps/{name}/trials/{trial}/stop")
    def stop_trial(name: str, trial: str, user: Asking) -> dict[str, Any]:
        entry = own(name, user)
        drop_trial(view.storage / entry.name, entry, view.trial(name, trial), user)
        return {"id": entry.name, "trial": trial, "asked": "stop"}

    @app.post("/queue/{name}/priority")
    def priority(name: str, given: Annotated[Priority, Body()], user: Asking) -> dict[str, Any]:
        entry = own(name, user)
        if queue.scheduler:
            rule, remedy = f"must be given by {queue.scheduler}, which orders the queue", "change it there"
            raise ConflictError("priority", rule, str(given.priority), remedy)
        if given.priority > 0 and users.user(user).role != "admin":
            raise ForbiddenError("priority", "must be 0 or below for a user", str(given.priority), "ask an admin")
        entry = queue.record("priority", entry.name, priority=given.priority, user=user)
        return {"id": entry.name, "state": entry.outcome or entry.state, "priority": entry.priority}
