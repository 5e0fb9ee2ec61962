"""A client of the experiment service: `Client(URL, TOKEN).submit(…)`, `wait`, `leaderboard`."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from trainables.errors import UserError, UserErrors, WordedError

TOKEN = "LLM_SWEEPS_TOKEN"  # environment variable that holds the token
LIVE = ("queued", "running", "paused", "planned")
TRIES, BETWEEN_SECONDS = 3, 1.0  # of a request whose answer was lost
ANSWER_SECONDS = 900.0  # the plan of a large data set takes minutes
LOOK_EVERY_SECONDS = 2.0

Reply = dict[str, Any]
Rows = list[Reply]  # `list` is a method below


class ServiceError(UserErrors):
    """The service has refused a request.

    Attributes:
        status: Its HTTP status.
    """

    def __init__(self, status: int, lines: Sequence[str]) -> None:
        super().__init__([WordedError(line.removeprefix("error: ")) for line in lines])
        self.status = status


class Client:
    """Talks to a service as one user. Thread-safe.

    Args:
        url: The service's, such as `http://127.0.0.1:8700`.
        token: The user's; None for the environment variable `LLM_SWEEPS_TOKEN`.

    Raises:
        UserError: There is no token, or the URL is none.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        token = (token or os.environ.get(TOKEN) or "").strip()
        if not token or not token.isascii() or not token.isprintable():
            got = "other characters than a token has" if token else "nothing"
            raise UserError(TOKEN, "must hold the service's token", got, f"export {TOKEN}=…")
        if not _is_address(url):
            raise UserError("URL", "must be a service's address", url, "write http://HOST:PORT")
        head = {"authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=head, timeout=ANSWER_SECONDS)

    def close(self) -> None:
        self._http.close()

    def list(
        self, model: str | None = None, data: str | None = None, state: str | None = None, since: str | None = None
    ) -> Rows:
        """All sweeps of the storage, newest first.

        Args:
            model: Part of the model's name.
            data: Part of the training data's name.
            state: Such as `running` or `complete`.
            since: A date, or an age such as `7d`.
        """
        given = {"model": model, "data": data, "state": state, "since": since}
        params = {key: one for key, one in given.items() if one is not None}
        return self._rows("/sweeps", params)

    def plan(self, config: str, overrides: Sequence[str] = ()) -> Reply:
        """Checks a sweep and forecasts its cost; nothing is queued.

        Args:
            config: YAML, as for `sweeps.run`.
            overrides: `key=value` texts.
        """
        return self._reply("POST", "/plan", {"config": config, "overrides": [*overrides]})

    def submit(self, config: str, overrides: Sequence[str] = (), client_id: str | None = None) -> Reply:
        """Plans and queues a sweep; the reply has its `id`.

        Args:
            config: YAML, as for `sweeps.run`.
            overrides: `key=value` texts.
            client_id: Your id of this request: repeated, it does nothing twice.
        """
        sent = {"config": config, "overrides": [*overrides], "client_id": client_id or secrets.token_hex(16)}
        return self._reply("POST", "/sweeps", sent)

    def sweep(self, sweep_id: str) -> Reply:
        """One sweep's state, winner, gain, cost and the ids of its trials."""
        return self._reply("GET", _place(sweep_id))

    def wait(self, sweep_id: str, seconds: float | None = None) -> Reply:
        """Waits until a sweep has ended, and returns its row.

        Args:
            sweep_id: The sweep.
            seconds: How long at most; None for no limit.

        Raises:
            TimeoutError: It has not ended by then.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while (row := self.sweep(sweep_id))["state"] in LIVE:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{sweep_id} is {row['state']} after {seconds:g} s")
            time.sleep(LOOK_EVERY_SECONDS)
        return row

    def curve(self, sweep_id: str, trial_id: str) -> Rows:
        """A trial's loss curve: step, LR, loss, the base model's loss, gradient norm."""
        return self._rows(f"{_place(sweep_id)}/trials/{_part(trial_id)}/curve")

    def leaderboard(self, sweep_id: str) -> Reply:
        """A sweep's leaderboard: winner, ties, rows with intervals."""
        return self._reply("GET", f"{_place(sweep_id)}/leaderboard")

    def queue(self) -> Rows:
        """What runs, what waits and why."""
        return self._rows("/queue")

    def stop(self, sweep_id: str) -> Reply:
        """Ends a sweep of yours: a queued one at once, a running one as by Ctrl-C."""
        return self._act(sweep_id, "stop")

    def pause(self, sweep_id: str) -> Reply:
        """Holds a sweep of yours back until it is resumed."""
        return self._act(sweep_id, "pause")

    def resume(self, sweep_id: str) -> Reply:
        """Queues a paused or unfinished sweep of yours again."""
        return self._act(sweep_id, "resume")

    def drop_trial(self, sweep_id: str, trial_id: str) -> Reply:
        """Ends one running trial of your sweep's search."""
        return self._reply("POST", f"{_place(sweep_id)}/trials/{_part(trial_id)}/stop", {})

    def delete(self, sweep_id: str) -> Reply:
        """Deletes a sweep of yours that does not run, with its folder."""
        return self._reply("DELETE", _place(sweep_id))

    def _act(self, sweep_id: str, what: str) -> Reply:
        return self._reply("POST", f"{_place(sweep_id)}/{what}", {})

    def _rows(self, path: str, params: dict[str, str] | None = None) -> Rows:
        found: Rows = self._ask("GET", path, Rows, params=params)
        return found

    def _reply(self, method: str, path: str, body: Any = None) -> Reply:
        found: Reply = self._ask(method, path, Reply, body)
        return found

    def _ask(self, method: str, path: str, kind: Any, body: Any = None, params: dict[str, str] | None = None) -> Any:
        # Only a request that reads, or has the sender's id, may be repeated once the service may have got it.
        repeats = method == "GET" or "client_id" in (body or {})
        for left in reversed(range(TRIES)):
            try:
                answer = self._http.request(method, path, json=body, params=params)
                break
            except httpx.RequestError as error:
                if not left or not (repeats or isinstance(error, httpx.ConnectError)):
                    got = f"{type(error).__name__}: {error}"
                    raise UserError(str(self._http.base_url), "must be a service", got, "start it") from None
                time.sleep(BETWEEN_SECONDS)
        try:
            if answer.is_success:
                return TypeAdapter(kind).validate_json(answer.content)
            lines = TypeAdapter(_Refusal).validate_json(answer.content).errors
        except ValidationError:  # of a proxy, or of another service
            got = f"status {answer.status_code}"
            raise UserError(str(self._http.base_url), "must be a service", got, "correct the address") from None
        raise ServiceError(answer.status_code, lines)


class _Refusal(BaseModel):
    errors: Annotated[list[str], Field(min_length=1)]


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets around what is no IPv6 address, or no port
        return False


def _place(sweep_id: str) -> str:
    return f"/sweeps/{_part(sweep_id)}"


def _part(name: str) -> str:
    # A path is shortened at dots before it is sent: to drop the trial `..` would be to stop the sweep.
    if name in (".", ".."):
        raise UserError("id", "must be that of a sweep or trial", name, "see list()")
    return quote(name, safe="", errors="replace")
