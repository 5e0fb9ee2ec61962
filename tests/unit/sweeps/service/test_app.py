"""The service's API: what each role may do, what a posted config may not; a refused request changes nothing."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from sweeps.service.access import guard
from sweeps.service.access.users import hashed
from sweeps.service.view import view
from tests.unit.sweeps.service.conftest import ROOT, URL

SMOKE = (ROOT / "conf" / "smoke.yaml").read_text()


def sent(name="first", *overrides, **fields):
    return {"config": SMOKE, "overrides": [f"name={name}", *overrides], **fields}


def files(service):
    """All files below the storage with their content, but for the audit log and what is kept to answer faster."""
    apart = ("audit.jsonl", ".index.json", "plans.txt", "driver.lock")
    return {
        str(path): path.read_bytes() for path in service.storage.rglob("*") if path.is_file() and path.name not in apart
    }


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
    ("POST", "/queue/{name}/priority", {"priority": 0}, "own"),
    ("POST", "/logout", None, "send"),
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
        assert ask(service.client("reed")) in (200, 404)  # the old sweep has no report
        assert files(service) == before
        return
    assert ask(service.client("reed")) == 403
    if who == "own":
        assert ask(service.client("bob")) == 403
        assert files(service) == before
    answer = ask(service.client("root"))
    assert answer in ((200, 409) if who == "own" else (200, 201, 303))


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


ROOTS = f"must lie below an allowed folder ({ROOT / 'conf'})"
HOSTILE = {
    "unknown key": (["serach.trials=3"], "did you mean search"),
    "wrong range": (["space.peak_lr.low=1.0"], "low must be below high"),
    "secret by interpolation": (["objective=${oc.env:HOME}"], "no interpolation"),
    "hidden interpolation": (['objective="\\x24{oc.env:HOME}"'], "no interpolation"),
    "interpolation in a key": (["heldout.areas.${oc.env:HOME}.path=x"], "overrides"),
    "absolute path": (["data.train=/etc/passwd"], ROOTS),
    "path that leads out": (["data.train=conf/../README.md"], ROOTS),
    "url of a file": (["data.train=file:///etc/passwd"], ROOTS),
    "url of a store": (["data.train=s3://bucket/x.jsonl"], ROOTS),
    "held-out path": (["heldout.areas.tables.path=/etc/hosts"], ROOTS),
    "model's path": (["model.name=/etc"], ROOTS),
    "home": (["model.name=~root/model"], ROOTS),
    "hub id": (["model.name=someone/model"], "must be a hub id that the service allows (none)"),
    "warm start": (["search.warm_start=[/etc]"], ROOTS),
    "parent": (["parent=/etc"], ROOTS),
    "webhook": (["notify.webhook=https://169.254.169.254/x"], "must go to a host that the service allows"),
    "webhook of a variable": (["notify.webhook=env:HOME"], "must go to a host that the service allows"),
    "remote code": (["model.trust_remote_code=true"], "may_run_code"),
    "a scorer's code": (["heldout.areas.tables.scorers=[os:system]"], "may_run_code"),
    "a scorer's code with an argument": (["heldout.areas.tables.scorers=[{os:system: 1}]"], "may_run_code"),
    "name that leads out": (["name=../x"], "name"),
    "name that is a path": (["name=a/b"], "name"),
    "no override": (["--help"], "key=value"),
    "surrogate": (["objective=\ud800"], "error"),
    "surrogate in a key": (["\ud800=1"], "error"),
    "NUL": (["data.train=a\0b"], "error"),
}


@pytest.mark.parametrize(("overrides", "words"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_posted_config_must_not_do(service, overrides, words):
    before = files(service)
    body = json.dumps({"config": SMOKE, "overrides": ["name=first", *overrides]})
    answer = service.client("ada").post("/sweeps", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    lines = answer.json()["errors"]
    assert all(line.startswith("error: ") and "\n" not in line for line in lines)
    assert words in "\n".join(lines)
    assert (files(service), service.queue.entries) == (before, {})


REPEATED = (f"{name}: &{name} [{','.join(['*' + before] * 9)}]" for before, name in pairwise("abcdefghi"))
BOMB = "\n".join(["a: &a [x]", *REPEATED])


@pytest.mark.parametrize(
    ("config", "status"),
    [
        (BOMB, 422),
        ("[" * 10_000, 422),
        ("seed: " + "9" * 60_000, 422),
        ("x" * 70_000, 422),
        ("x" * 300_000, 413),
        ("- a list", 422),
        ("\x00", 422),
        (17, 422),
        (None, 422),
    ],
)
def test_configs_that_are_none_are_refused_at_once(service, config, status):
    assert service.client("ada").post("/sweeps", json={"config": config}).status_code == status


def test_a_body_in_chunks_is_bounded_too(service):
    chunks = (b"x" * 10_000 for _ in range(40))
    assert service.client("ada").post("/sweeps", content=chunks).status_code == 413


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff", b'{"config": "a", "more": 1}', b"null"])
def test_bodies_that_are_none(service, body):
    for path in ("/sweeps", "/plan", "/queue/old/priority", "/sweeps/old/clone"):
        answer = service.client("ada").post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.json()["errors"][0].startswith("error: ")


def test_code_only_of_users_who_may_run_it(service):
    overrides = ["model.trust_remote_code=true", "heldout.areas.tables.scorers=[os:system]"]
    assert service.client("coda").post("/plan", json=sent("first", *overrides)).status_code == 200


def test_a_link_below_a_root_leads_nowhere_else(service):
    link = service.storage / "link.jsonl"
    link.symlink_to("/etc/passwd")
    path = service.folder / "users.yaml"
    path.write_text(path.read_text().replace(str(ROOT / "conf"), str(service.storage)))
    for place in (link, service.folder / "audit.jsonl"):  # nor to the service's own files
        answer = service.client("ada").post("/plan", json=sent("first", f"data.train={place}"))
        assert answer.status_code == 422
        assert "data.train: must lie below" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/sweeps/out", "/sweeps/out/trials/t0001/curve", "/sweeps/%2e%2e",
        "/sweeps/..%2f..%2fetc", "/sweeps/.service", "/sweeps/old%00", "/sweeps/OLD",
        "/sweeps/old/trials/..%2f..%2f.service/curve", "/sweeps/old/trials/../curve", "/sweeps/%252e%252e/report",
        "/sweeps/out/leaderboard", "/static/..%2fapp.py", "/static/base.html", "/page/sweeps/..%2f.service",
    ],
)  # fmt: skip
def test_no_path_leaves_the_storage(service, path):
    outside = service.storage.parent / f"{service.storage.name}-outside"
    outside.mkdir()
    (outside / "leaderboard.json").write_text('{"secret": 1}')
    (outside / "sweep.yaml").write_text("name: out")
    (service.storage / "out").symlink_to(outside)
    answer = service.client("root").get(path)
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_a_host_that_is_no_name_of_the_service_is_refused(service):
    client = service.client("root")
    for host in ("evil.example:8700", "127.0.0.1.evil.example", "", "[::1"):
        assert client.get("/sweeps", headers={"host": host}).status_code == 400


ORIGINS = [("http://127.0.0.1:8700", 200), ("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:1", 403)]


@pytest.mark.parametrize(("origin", "status"), [*ORIGINS, (None, 403)])
def test_a_session_changes_nothing_for_another_sites_page(service, origin, status):
    service.client("ada").post("/sweeps", json=sent())
    browser = TestClient(service.app, base_url=URL, follow_redirects=False)
    answer = browser.post("/login", data={"token": service.tokens["ada"]})
    assert answer.status_code == 303
    assert all(word in answer.headers["set-cookie"].lower() for word in ("httponly", "samesite=strict"))
    # Under `no-referrer`, browsers would send the form for the token from origin "null", which is refused.
    assert browser.get("/sweeps").headers["referrer-policy"] == "same-origin"
    headers = {"origin": origin} if origin else {}
    assert browser.post("/sweeps/first/pause", json={}, headers=headers).status_code == status
    with_token = service.client("ada").post("/sweeps/first/stop", json={}, headers=headers).status_code
    assert with_token == (200 if origin is None else status)


def test_a_browser_without_a_token_gets_the_form_for_one(service):
    answer = service.client("nobody").get("/", headers={"accept": "text/html"})
    assert (answer.status_code, "password" in answer.text) == (401, True)


def test_changes_are_logged_a_line_each_without_tokens(service):
    client = service.client("ada")
    client.post("/sweeps", json=sent())
    client.post("/sweeps/first%0a%7b%7d/stop", json={})
    service.client("nobody").post("/sweeps", json={})
    lines = [json.loads(line) for line in (service.folder / "audit.jsonl").read_text().splitlines()]
    assert [(line["user"], line["path"], line["status"]) for line in lines] == [
        ("ada", "/sweeps", 201), ("ada", "/sweeps/first\n{}/stop", 404), (None, "/sweeps", 401)]  # fmt: skip
    written = "".join(path.read_text(errors="replace") for path in service.folder.rglob("*") if path.is_file())
    assert not any(token in written for token in service.tokens.values())


def test_requests_beyond_the_rate_are_told_to_wait(service, monkeypatch):
    monkeypatch.setattr(guard, "READ_RATE", guard.Rate(0.001, 3))
    monkeypatch.setattr(guard, "FAILURE_RATE", guard.Rate(0.001, 2))
    assert [service.client("ada").get("/queue").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert service.client("bob").get("/queue").status_code == 200
    wrong = TestClient(service.app, base_url=URL, headers={"authorization": "Bearer x"})
    assert [wrong.get("/queue").status_code for _ in range(3)] == [401, 401, 429]


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


def test_a_report_is_shown_as_a_page_of_no_site(service):
    (service.storage / "old" / "report.html").write_text("<script>alert(1)</script>")
    policy = service.client("reed").get("/sweeps/old/report").headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy


EVIL = "</script><img src=x onerror=alert(1)>"


def test_a_users_text_is_no_markup(service):
    path = service.storage / "old" / "sweep.yaml"
    path.write_text(path.read_text().replace("Show that", EVIL))
    for page in ("/", "/page/sweeps/old"):
        answer = service.client("reed").get(page)
        assert answer.status_code == 200
        assert "<img" not in answer.text
        assert "script-src" not in answer.headers["content-security-policy"]  # so `default-src 'self'` holds
    assert "&lt;img" in answer.text


def test_events_tell_a_sweep_until_its_end(service, monkeypatch):
    monkeypatch.setattr(view, "LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(view, "FRESH_SECONDS", 0.0)
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
    answer = service.client("bob").post("/sweeps/first/clone", json=body)
    assert answer.json()["changes"] == {
        "name": ["first", "copy"],
        "search.trials": [4, 7],
        "notify.webhook": ["http://localhost/hook", None],
    }
    answer = service.client("ada").post("/sweeps/first/clone", json={"name": "own"})
    assert answer.json()["changes"] == {"name": ["first", "own"]}


def test_a_sweep_of_the_command_line_is_only_looked_at(service):
    answer = service.client("root").post("/sweeps/old/stop", json={})
    assert (answer.status_code, "sent to this service" in answer.text) == (409, True)


def test_a_damaged_users_file_opens_nothing(service):
    (service.folder / "users.yaml").write_text("users: [")
    assert service.client("root").get("/sweeps").status_code == 503
    stored = json.dumps({"users": {"root": {"token": "x", "role": "admin"}}})
    (service.folder / "users.yaml").write_text(stored)
    assert service.client("root").get("/sweeps").status_code == 401


def test_a_token_counts_only_while_the_file_has_it(service):
    client = service.client("ada")
    assert client.get("/queue").status_code == 200
    path = service.folder / "users.yaml"
    users = path.read_text()
    own = users[users.index("ada:") :].split("token: ")[1].split("\n")[0]
    path.write_text(users.replace(own, hashed("ada.another")))
    assert client.get("/queue").status_code == 401


def test_users_yaml_is_for_its_owner_alone(tokens):
    assert os.stat(tokens[0]).st_mode & 0o077 == 0
    assert not any(token in Path(tokens[0]).read_text() for token in tokens[1].values())
