"""The service's API: what each role may do, what a posted config may not; a refused request changes nothing."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from sweeps.service.access import guard
from sweeps.service.runs import submission
from sweeps.service.view import rows, view
from tests.unit.sweeps.service.conftest import URL, files, sent

# Each route with a body that is right, and who may: all with a token, those who send, or the owner and admins.
ROUTES = [
    ("GET", "/", None, "all"),
    ("GET", "/page/new", None, "all"),
    ("GET", "/page/sweeps/{name}", None, "all"),
    ("GET", "/static/plotly.js", None, "all"),
    ("GET", "/static/{name}", None, "all"),
    ("GET", "/openapi.json", None, "all"),
    ("GET", "/sweeps", None, "all"),
    ("GET", "/sweeps/{name}", None, "all"),
    ("GET", "/sweeps/{name}/trials/{trial}/curve", None, "all"),
    ("GET", "/sweeps/{name}/leaderboard", None, "all"),
    ("GET", "/sweeps/{name}/report", None, "all"),
    ("GET", "/sweeps/{name}/events", None, "all"),
    ("GET", "/queue", None, "all"),
    ("POST", "/plan", sent(), "send"),
    ("POST", "/sweeps", sent(), "send"),
    ("POST", "/sweeps/{name}/clone", {"name": "copy"}, "send"),
    ("POST", "/sweeps/{name}/stop", {}, "own"),
    ("POST", "/sweeps/{name}/pause", {}, "own"),
    ("POST", "/sweeps/{name}/resume", {}, "own"),
    ("POST", "/sweeps/{name}/trials/{trial}/stop", {}, "own"),
    ("DELETE", "/sweeps/{name}", None, "own"),
    ("POST", "/queue/{name}/priority", {"priority": 0}, "own"),
    ("POST", "/logout", None, "all"),
]
OPEN = {("GET", "/health"), ("POST", "/login")}


def walk(routes):
    for route in routes:
        for method in getattr(route, "methods", None) or ():
            yield method, route.path


def test_every_route_stands_in_the_table_below(service):
    known = {(method, path) for method, path, _, _ in ROUTES} | OPEN
    served = {one for one in walk(service.app._app.routes) if one[0] != "HEAD"}
    assert served == known


@pytest.mark.parametrize(("method", "path", "body", "who"), ROUTES, ids=[f"{one[0]} {one[1]}" for one in ROUTES])
def test_who_may_do_what(service, method, path, body, who):
    assert service.client("ada").post("/sweeps", json=sent("mine")).status_code == 201
    name = "mine" if who == "own" else "old"
    place = path.replace("{name}", "page.css" if "static" in path else name).replace("{trial}", "t0001")
    before = files(service)

    def ask(client):
        return client.request(method, place, json=body).status_code

    strangers = [service.client("nobody"), TestClient(service.app, base_url=URL, headers={"authorization": "Bearer x"})]
    guessed = TestClient(service.app, base_url=URL, headers={"authorization": "Bearer root.x"})
    assert [ask(client) for client in (*strangers, guessed)] == [401, 401, 401]
    assert files(service) == before
    if who == "all":
        assert ask(service.client("reed")) in (200, 303, 404)  # the old sweep has no report
        assert files(service) == before
        return
    assert ask(service.client("reed")) == 403
    if who == "own":
        assert ask(service.client("bob")) == 403
        assert files(service) == before
    own = (404,) if "{trial}" in path else (200, 409)  # the queued sweep has no trial yet
    assert ask(service.client("root")) in (own if who == "own" else (200, 201, 303))


def test_the_health_check_needs_no_token(service):
    assert service.client("nobody").get("/health").json() == {"status": "ok"}


def test_a_sweep_is_planned_and_queued_and_an_id_repeated_does_nothing_twice(service):
    client = service.client("ada")
    first = client.post("/sweeps", json=sent(client_id="x1"))
    assert first.status_code == 201
    found = first.json()
    assert (found["id"], found["state"], found["text"]) == ("first", "queued", "the plan\n")
    assert (found["findings"], found["forecast"]) == ([{"severity": "info", "message": "fine"}], {"sweep_flops": 1.0})
    again = client.post("/sweeps", json=sent("second", client_id="x1"))
    assert (again.status_code, again.json()) == (200, found)
    assert list(service.queue.entries) == ["first"]
    assert service.client("bob").post("/sweeps", json=sent("FIRST")).status_code == 409
    assert service.client("bob").post("/sweeps", json=sent("OLD")).status_code == 409
    assert service.client("bob").post("/sweeps", json=sent("second", client_id="x1")).status_code == 201
    (row,) = [row for row in client.get("/sweeps").json() if row["name"] == "first"]
    assert (row["state"], row["user"], row["queue"]) == ("queued", "ada", "queued")


@pytest.mark.parametrize("ids", [("a", "a"), ("a", "b")], ids=["one id", "one name"])
def test_two_requests_at_the_same_moment_make_one_sweep(service, ids):
    barrier = threading.Barrier(2)

    def send(client_id):
        barrier.wait()
        return service.client("ada").post("/sweeps", json=sent(client_id=client_id))

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(send, ids))
    assert sorted(answer.status_code for answer in answers) == ([200, 201] if len(set(ids)) == 1 else [201, 409])
    assert len(service.queue.entries) == 1
    assert (service.storage / "plans.txt").read_text() == "first\n"


def test_a_refused_plan_is_the_command_lines_own_line_and_queues_nothing(service):
    answer = service.client("ada").post("/sweeps", json=sent("first", "seed=666"))
    assert answer.status_code == 422
    line = f"error: {service.storage}/first/train.jsonl: data file must exist, got nothing; correct the path"
    assert answer.json() == {"errors": [line]}
    assert service.queue.entries == {}
    assert list((service.folder / "plans").iterdir()) == []


def test_a_browser_without_a_token_gets_the_form_for_one(service):
    answer = service.client("nobody").get("/", headers={"accept": "text/html"})
    assert (answer.status_code, "password" in answer.text) == (401, True)


def test_a_limiter_refills_with_time():
    now = [0.0]
    limiter = guard.Limiter(lambda: now[0])
    assert [limiter.passes("a", guard.Rate(1, 2)) for _ in range(3)] == [True, True, False]
    now[0] = 1.5
    assert [limiter.passes("a", guard.Rate(1, 2)) for _ in range(2)] == [True, False]


def test_the_curve_the_board_and_the_row_are_the_sweeps_own(service):
    client = service.client("reed")
    folder = service.storage / "old"
    steps = [json.loads(line) for line in (folder / "trials" / "t0001" / "curve.jsonl").read_text().splitlines()]
    curve = client.get("/sweeps/old/trials/t0001/curve").json()
    assert [(one["step"], one["loss"]) for one in curve] == [(one["step"], one["loss"]) for one in steps]
    assert "ids" not in curve[0]
    assert client.get("/sweeps/old/leaderboard").json() == json.loads((folder / "leaderboard.json").read_text())
    assert client.get("/sweeps/old").json()["trial_ids"] == ["baseline", "t0001", "t0002", "t0003"]
    assert [row["name"] for row in client.get("/sweeps?model=TINY&state=interrupted").json()] == ["old"]
    assert client.get("/sweeps?model=qwen").json() == []
    assert client.get("/sweeps?since=never").status_code == 422


def test_events_tell_a_sweep_until_its_end(service, monkeypatch):
    monkeypatch.setattr(view, "LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(rows, "FRESH_SECONDS", 0.0)
    client = service.client("ada")
    client.post("/sweeps", json=sent())
    states = []
    with client.stream("GET", "/sweeps/old/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        states = [json.loads(line[6:])["state"] for line in stream.iter_lines() if line.startswith("data: ")]
    assert states == ["interrupted"]
    threading.Timer(0.3, service.queue.stop, ["first"]).start()
    with client.stream("GET", "/sweeps/first/events") as stream:
        states = [json.loads(line[6:])["state"] for line in stream.iter_lines() if line.startswith("data: ")]
    assert states == ["queued", "stopped"]
    monkeypatch.setattr(view, "STREAMS_A_USER", 0)
    assert client.get("/sweeps/first/events").status_code == 429


def test_a_sweep_resumed_a_moment_after_its_end_is_told_as_queued(service):
    client = service.client("ada")

    def states():
        with client.stream("GET", "/sweeps/first/events") as stream:
            return [json.loads(line[6:])["state"] for line in stream.iter_lines() if line.startswith("data: ")]

    client.post("/sweeps", json=sent())
    client.post("/sweeps/first/stop")
    assert states() == ["stopped"]
    assert client.post("/sweeps/first/resume").status_code == 200
    threading.Timer(0.3, service.queue.stop, ["first"]).start()
    assert states() == ["queued", "stopped"]


def test_the_queue_says_what_each_sweep_waits_for_and_admins_alone_raise_it(service):
    ada, root = service.client("ada"), service.client("root")
    for name in ("one", "two", "three"):
        ada.post("/sweeps", json=sent(name))
    assert [(one["id"], one["waits_for"]) for one in ada.get("/queue").json()] == [
        ("one", None), ("two", "the end of one"), ("three", "the end of one, two")]  # fmt: skip
    assert ada.post("/queue/three/priority", json={"priority": 1}).status_code == 403
    assert ada.post("/queue/one/priority", json={"priority": -1}).status_code == 200
    assert root.post("/queue/three/priority", json={"priority": 1}).status_code == 200
    assert root.post("/queue/three/priority", json={"priority": 101}).status_code == 422
    ada.post("/sweeps/two/pause", json={})
    assert [(one["id"], one["waits_for"]) for one in ada.get("/queue").json()] == [
        ("three", None), ("one", "the end of three"), ("two", "to be resumed")]  # fmt: skip


def test_a_clone_says_what_it_changes_and_takes_no_strangers_webhook(service):
    path = service.folder / "users.yaml"
    path.write_text(path.read_text().replace("webhooks: []", "webhooks: [localhost]"))
    hook = "notify.webhook=http://localhost/hook"
    assert service.client("ada").post("/sweeps", json=sent("first", hook)).status_code == 201
    (service.storage / "first").mkdir()
    key = service.queue.get("first").key
    (service.storage / "first" / "sweep.yaml").write_bytes((service.folder / "sent" / f"{key}.yaml").read_bytes())
    body = {"name": "copy", "overrides": ["search.trials=7"]}
    planned = service.client("bob").post("/sweeps/first/clone", json={**body, "plan_only": True})
    assert (planned.status_code, list(service.queue.entries)) == (200, ["first"])
    answer = service.client("bob").post("/sweeps/first/clone", json=body)
    assert planned.json()["changes"] == answer.json()["changes"]
    assert answer.json()["changes"] == {
        "name": ["first", "copy"],
        "search.trials": [4, 7],
        "notify.webhook": ["***", None],
    }
    answer = service.client("ada").post("/sweeps/first/clone", json={"name": "own"})
    assert answer.json()["changes"] == {"name": ["first", "own"]}


def test_a_sweep_of_the_command_line_is_only_looked_at(service):
    answer = service.client("root").post("/sweeps/old/stop", json={})
    assert (answer.status_code, "sent to this service" in answer.text) == (409, True)


def test_users_yaml_is_for_its_owner_alone(tokens):
    assert os.stat(tokens[0]).st_mode & 0o077 == 0
    assert not any(token in Path(tokens[0]).read_text() for token in tokens[1].values())


def test_news_of_a_queued_sweep_are_told_by_a_process_of_their_own_and_once(service, monkeypatch):
    told = []
    plain = submission.subprocess.Popen

    def begun(command, **options):
        if "sweeps.notify" not in command:
            return plain(command, **options)
        told.append(command[1:])
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(submission.subprocess, "Popen", begun)
    ada = service.client("ada")
    for name, events in (("first", "[queued]"), ("second", "[ended]"), ("first", "[queued]")):
        assert ada.post("/sweeps", json=sent(name, f"notify.events={events}", client_id=name)).status_code in (200, 201)
    ((_, module, config, event, _),) = told
    assert (module, event, config) == ("sweeps.notify", "queued", str(service.queue.config(service.queue.get("first"))))
