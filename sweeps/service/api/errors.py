"""Errors as the command line's own lines, each kind with its status."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sweeps.service.queue.queue import ConflictError
from sweeps.service.runs.submission import BusyError
from sweeps.service.view.view import UnknownError
from trainables.errors import UserError, UserErrors
from trainables.storage.json_numbers import finite


class ForbiddenError(UserError):
    """The sweep is another user's."""


STATUS: dict[type[Exception], int] = {UnknownError: 404, ConflictError: 409, ForbiddenError: 403, BusyError: 429}


class Lines(JSONResponse):
    """JSON in ASCII: a request's text may hold what UTF-8 can't."""

    def render(self, content: Any) -> bytes:
        return json.dumps(finite(content)).encode()  # browsers read no NaN


def add_errors(app: FastAPI) -> None:
    """Adds what answers errors to the app."""

    @app.exception_handler(UserError)
    @app.exception_handler(UserErrors)
    async def wrong(_: Request, error: UserError | UserErrors) -> Lines:
        return Lines({"errors": [f"error: {line}" for line in str(error).splitlines()]}, STATUS.get(type(error), 422))

    @app.exception_handler(OSError)
    async def unwritable(_: Request, error: OSError) -> Lines:
        line = UserError("storage", "must be readable and writable", error.strerror, "see the service's machine")
        return Lines({"errors": [f"error: {line}"]}, 503)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Lines:
        lines = (
            UserError(".".join(map(str, one["loc"])), one["msg"], repr(one.get("input"))[:80], "see /openapi.json")
            for one in error.errors()
        )
        return Lines({"errors": [f"error: {line}" for line in lines]}, 422)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Lines:
        line = UserError(
            request.url.path[:100], "must be a request that can be answered", error.detail, "see /openapi.json"
        )
        return Lines({"errors": [f"error: {line}"]}, error.status_code, headers=error.headers)
