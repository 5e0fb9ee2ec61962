"""Kinds of faults that services of this kind had, as requests with the right answer; nothing changes on the disk."""

import asyncio
import json

import pytest
from starlette.testclient import TestClient

from sweeps.service.access import guard
from sweeps.service.access.users import hashed
from sweeps.service.view import view
from tests.unit.sweeps.service.conftest import URL, files, sent


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff", b'{"config": "a", "more": 1}', b"null"])
def test_bodies_that_are_none(service, body):
    for path in ("/sweeps", "/plan", "/queue/old/priority", "/sweeps/old/clone"):
        answer = service.client("ada").post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.json()["errors"][0].startswith("error: ")


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
    # A sweep that lies elsewhere is none of this storage.
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
    for host in ("evil.example:8700", "127.0.0.1.evil.example", "", "[::1", "127.0.0.1:x", "127.0.0.1:80:80", "[evil]"):
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


@pytest.mark.parametrize("target", ["leaderboard.json", "report.html", "trials/t0001/curve.jsonl"])
def test_a_link_in_a_sweeps_folder_shows_no_file_of_another(service, target):
    own = service.folder / "users.yaml"
    link = service.storage / "old" / target
    link.unlink(missing_ok=True)
    link.symlink_to(own)
    route = {"leaderboard.json": "leaderboard", "report.html": "report"}.get(target, "trials/t0001/curve")
    answer = service.client("root").get(f"/sweeps/old/{route}")
    assert (answer.status_code, answer.text) in ((404, answer.text), (200, "[]"))
    assert "token" not in answer.text


def raw(service, method, path, headers, body=b""):
    """A request with headers as they are, which clients would put in order."""
    said = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        said.append(message)

    lines = [(name.encode(), text.encode("latin-1")) for name, text in headers]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": lines,
             "query_string": b"", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1)}  # fmt: skip
    asyncio.run(service.app(scope, receive, send))
    return said[0]["status"]


def test_what_two_readers_could_read_differently_is_refused(service):
    host, token = ("host", "127.0.0.1"), ("authorization", f"Bearer {service.tokens['root']}")
    before = files(service)
    assert raw(service, "GET", "/queue", [host, token]) == 200
    for twice in (host, token, ("origin", "http://127.0.0.1"), ("content-length", "2")):
        assert raw(service, "POST", "/queue/old/priority", [host, token, twice, twice], b"{}") == 400
    for length in ("\xb2", "-1", "+1", "1_0", "9" * 400):
        assert raw(service, "POST", "/plan", [host, token, ("content-length", length)], b"{}") == 413
    assert files(service) == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "BREW"])
def test_a_method_that_no_route_has_does_nothing(service, method):
    before = files(service)
    for path in ("/sweeps", "/queue", "/sweeps/old/stop", "/health"):
        answer = service.client("root").request(method, path, headers={"x-http-method-override": "POST"})
        assert answer.status_code == 405, path
        assert service.client("nobody").request(method, path).status_code in (401, 405)
    assert files(service) == before


def test_a_token_is_read_from_no_address_and_stands_in_no_log(service):
    token = service.tokens["root"]
    assert service.client("nobody").get(f"/sweeps?token={token}&access_token={token}").status_code == 401
    assert service.client("root").post(f"/sweeps/{token}/stop", json={}).status_code == 404
    assert token not in (service.folder / "audit.jsonl").read_text()


def test_a_filter_is_a_plain_part_of_a_name(service):
    client = service.client("reed")
    for pattern in ("(a+)+$", "[", "*", "\\", "a" * 5000):
        assert client.get("/sweeps", params={"model": pattern, "data": pattern}).json() == []
    for since in ("9" * 5000 + "d", "0001-01-01T00:00:00+23:59", "-1d", ""):
        assert client.get("/sweeps", params={"since": since}).status_code == 422
    assert client.get("/sweeps", params={"state": "x' or 1=1"}).status_code in (200, 422)


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "NaN", "Infinity", "-101", "null", "[1]"])
def test_numbers_that_are_none(service, number):
    head = {"content-type": "application/json"}
    service.client("ada").post("/sweeps", json=sent())
    before = files(service)
    answer = service.client("root").post("/queue/first/priority", content=f'{{"priority": {number}}}', headers=head)
    assert answer.status_code in (400, 422)
    assert files(service) == before


def test_losses_that_are_no_numbers_are_null_in_json(service):
    curve = service.storage / "old" / "trials" / "t0001" / "curve.jsonl"
    curve.write_text('{"step": 1, "loss": NaN, "lr": Infinity}\n')
    assert "NaN" not in (text := service.client("reed").get("/sweeps/old/trials/t0001/curve").text)
    assert json.loads(text)[0]["loss"] is None


def test_a_wrong_token_costs_no_hash_once_it_was_wrong_too_often(service, monkeypatch):
    monkeypatch.setattr(guard, "FAILURE_RATE", guard.Rate(0.001, 2))
    assert service.client("ada").get("/queue").status_code == 200
    wrong = TestClient(service.app, base_url=URL, headers={"authorization": "Bearer ada.x"})
    assert [wrong.get("/queue").status_code for _ in range(2)] == [401, 401]
    monkeypatch.setattr("sweeps.service.access.users.matches", None)  # a hash would now be an error
    assert wrong.get("/queue").status_code == 429
    assert service.client("ada").get("/queue").status_code == 200  # a token that is known goes on


def test_a_client_that_stops_sending_or_reading_is_dropped(service, monkeypatch):
    monkeypatch.setattr(guard, "SLOWEST_BODY_SECONDS", 0.05)
    monkeypatch.setattr(guard, "SLOWEST_READER_SECONDS", 0.05)
    monkeypatch.setattr(view, "STREAMS_A_USER", 1)
    service.client("ada").post("/sweeps", json=sent())
    head = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {service.tokens['ada']}".encode())]
    scope = {"type": "http", "query_string": b"", "scheme": "http", "http_version": "1.1", "headers": head,
             "client": ("127.0.0.1", 1)}  # fmt: skip
    said = []

    async def never(*_):
        await asyncio.Event().wait()

    def asks_once():
        parts = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive():
            return parts.pop() if parts else await never()

        return receive

    async def says(message):
        said.append(message)

    async def reads_the_head_alone(message):
        if message.get("body"):
            await never()

    async def requests():
        await asyncio.wait_for(service.app({**scope, "method": "POST", "path": "/plan"}, never, says), 10)
        stream = {**scope, "method": "GET", "path": "/sweeps/first/events"}
        for _ in range(2):  # the second finds the first's place free again
            await asyncio.wait_for(service.app(dict(stream), asks_once(), reads_the_head_alone), 10)
        many = [asyncio.create_task(service.app(dict(stream), asks_once(), says)) for _ in range(5)]
        await asyncio.sleep(0.5)
        for one in many:
            one.cancel()

    asyncio.run(requests())
    assert sorted(one["status"] for one in said if "status" in one) == [200, 408, 429, 429, 429, 429]
