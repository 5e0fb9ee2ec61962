"""A client of the experiment service: `Client(URL, TOKEN).submit(…)`, `wait`, `leaderboard`."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx

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
        UserError: There is no token.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        token = token or os.environ.get(TOKEN)
        if not token:
            raise UserError(TOKEN, "must hold the service's token", "nothing", f"export {TOKEN}=…")
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
        return list(self._ask("GET", "/sweeps", params={key: one for key, one in given.items() if one is not None}))

    def plan(self, config: str, overrides: Sequence[str] = ()) -> Reply:
        """Checks a sweep and forecasts its cost; nothing is queued.

        Args:
            config: YAML, as for `sweeps.run`.
            overrides: `key=value` texts.
        """
        return dict(self._ask("POST", "/plan", {"config": config, "overrides": [*overrides]}))

    def submit(self, config: str, overrides: Sequence[str] = (), client_id: str | None = None) -> Reply:
        """Plans and queues a sweep; the reply has its `id`.

        Args:
            config: YAML, as for `sweeps.run`.
            overrides: `key=value` texts.
            client_id: Your id of this request: repeated, it does nothing twice.
        """
        sent = {"config": config, "overrides": [*overrides], "client_id": client_id or secrets.token_hex(16)}
        return dict(self._ask("POST", "/sweeps", sent))

    def sweep(self, sweep_id: str) -> Reply:
        """One sweep's state, winner, gain, cost and the ids of its trials."""
        return dict(self._ask("GET", _place(sweep_id)))

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
        return list(self._ask("GET", f"{_place(sweep_id)}/trials/{quote(trial_id, safe='')}/curve"))

    def leaderboard(self, sweep_id: str) -> Reply:
        """A sweep's leaderboard: winner, ties, rows with intervals."""
        return dict(self._ask("GET", f"{_place(sweep_id)}/leaderboard"))

    def queue(self) -> Rows:
        """What runs, what waits and why."""
        return list(self._ask("GET", "/queue"))

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
        return dict(self._ask("POST", f"{_place(sweep_id)}/trials/{quote(trial_id, safe='')}/stop", {}))

    def delete(self, sweep_id: str) -> Reply:
        """Deletes a sweep of yours that does not run, with its folder."""
        return dict(self._ask("DELETE", _place(sweep_id)))

    def _act(self, sweep_id: str, what: str) -> Reply:
        return dict(self._ask("POST", f"{_place(sweep_id)}/{what}", {}))

    def _ask(self, method: str, path: str, body: Any = None, params: dict[str, str] | None = None) -> Any:
        # Only a request that reads, or has the sender's id, may be repeated once the service may have got it.
        repeats = method == "GET" or "client_id" in (body or {})
        for left in reversed(range(TRIES)):
            try:
                answer = self._http.request(method, path, json=body, params=params)
                break
            except httpx.TransportError as error:
                if not left or not (repeats or isinstance(error, httpx.ConnectError)):
                    got = f"{type(error).__name__}: {error}"
                    raise UserError(str(self._http.base_url), "must be a service", got, "start it") from None
                time.sleep(BETWEEN_SECONDS)
        try:
            found = answer.json()
        except ValueError:  # no JSON, or no UTF-8
            got = f"status {answer.status_code}"
            raise UserError(str(self._http.base_url), "must be a service", got, "correct the address") from None
        if answer.is_success:
            return found
        raise ServiceError(answer.status_code, found.get("errors") or [answer.reason_phrase])


def _place(sweep_id: str) -> str:
    return f"/sweeps/{quote(sweep_id, safe='')}"
