"""The load benchmark of the service: what it accepts, and that a short load has no error."""

import asyncio
from types import SimpleNamespace

import psutil
import pytest

from benchmarks.service import __main__ as service
from sweeps.service.access.users import Users
from sweeps.service.api.app import make_app
from sweeps.service.queue.queue import SERVICE_FOLDER, Queue
from tests.unit.sweeps.service.conftest import fake_plan, listening


@pytest.mark.parametrize(
    ("health", "other", "errors", "memory", "accepted"),
    [
        (0.01, 0.02, [], [100, 105], True),
        (0.01, 0.11, [], [100, 105], False),
        (0.01, 0.02, ["/: status 500"], [100, 105], False),
        (0.01, 0.02, [], [100, 120], False),
    ],
)
def test_what_is_accepted(health, other, errors, memory, accepted):
    load = SimpleNamespace(seconds={"/health": [health] * 100, "/": [other] * 100}, errors=errors, told=[1])
    assert service.summary(load, memory)["accepted"] is accepted


def test_a_short_load_has_no_error_and_every_stream_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.service.access.users.SCRYPT", {"n": 2, "r": 8, "p": 1})
    tokens = service.make_storage(tmp_path, sweeps=3, users=4)
    folder = tmp_path / SERVICE_FOLDER
    with listening(make_app(tmp_path, Queue(folder), Users(folder), {"127.0.0.1"}, fake_plan)) as url:
        load = service.Load(url, tokens, seed=1)
        asyncio.run(service.measured(psutil.Process(), load, rate=40.0, seconds=1.0))
    assert load.errors == []
    assert sum(map(len, load.seconds.values())) == 40
    assert len(load.told) == 4
    assert all(load.told)
