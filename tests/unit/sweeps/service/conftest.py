"""A service on a storage with one old sweep, users of each role, and a plan that takes no time."""

import asyncio
import shutil
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from starlette.testclient import TestClient

from sweeps.serve import _bound
from sweeps.service.access.users import Users
from sweeps.service.api.app import make_app
from sweeps.service.queue.queue import SERVICE_FOLDER, Queue

ROOT = Path(__file__).parents[4]
OLD = ROOT / "tests" / "data" / "sweep_of_0_1"
PLAN = Path(__file__).with_name("fake_plan.py")
URL = "http://127.0.0.1:8700"
ROLES = {"reed": "reader", "ada": "user", "bob": "user", "root": "admin", "coda": "user"}

SMOKE = (ROOT / "conf" / "smoke.yaml").read_text()


def sent(name="first", *overrides, **fields):
    return {"config": SMOKE, "overrides": [f"name={name}", *overrides], **fields}


def files(service):
    """All files below the storage with their content, but for the audit log and what is kept to answer faster."""
    apart = ("audit.jsonl", ".index.json", "plans.txt", "driver.lock")
    return {
        str(path): path.read_bytes() for path in service.storage.rglob("*") if path.is_file() and path.name not in apart
    }


@contextmanager
def listening(app):
    bound = _bound("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def fake_plan(arguments):
    return [sys.executable, "-S", "-E", str(PLAN), *arguments]


@pytest.fixture(scope="package", autouse=True)
def cheap_hashes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.service.access.users.SCRYPT", {"n": 2, "r": 8, "p": 1})
        yield


@pytest.fixture(scope="package")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("users")
    users = Users(folder)
    found = {name: users.add(name, role, may_run_code=name == "coda", roots=[ROOT / "conf"])
             for name, role in ROLES.items()}  # fmt: skip
    return folder / "users.yaml", found


@pytest.fixture
def service(tmp_path, tokens, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = tmp_path / SERVICE_FOLDER
    folder.mkdir()
    shutil.copy(tokens[0], folder / "users.yaml")
    shutil.copytree(OLD, tmp_path / "old")
    queue = Queue(folder)
    app = make_app(tmp_path, queue, Users(folder), {"127.0.0.1"}, fake_plan)

    def client(name):
        headers = {"authorization": f"Bearer {tokens[1][name]}"} if name in tokens[1] else {}
        return TestClient(app, base_url=URL, headers=headers, follow_redirects=False)

    return SimpleNamespace(storage=tmp_path, folder=folder, queue=queue, app=app, client=client, tokens=tokens[1])
