"""Requests whose head or form is odd: who is logged in by it, and what a browser may send by itself."""

import asyncio
import json

import pytest
from starlette.testclient import TestClient

from sweeps.service.access import guard
from tests.unit.sweeps.service.conftest import URL, sent


def browser(service):
    return TestClient(service.app, base_url=URL, follow_redirects=False)


@pytest.mark.parametrize(
    "others",
    ["flag", 'a[b]={"x":1}', "user name=x y", 'x="unclosed', "=", "llm-sweeps-old=1", "a=b=c; ;", "x=\x7f", "@=1,2"],
)
def test_cookies_of_other_programs_on_the_machine_log_nobody_out(service, others):
    cookie = f"{others}; llm-sweeps={service.tokens['ada']}; more=1"
    assert browser(service).get("/queue", headers={"cookie": cookie}).status_code == 200


@pytest.mark.parametrize("scheme", ["Basic eA==", "Digest x", "x", "", "Bearer"])
def test_what_a_browser_adds_for_a_proxy_makes_no_script_of_its_cookie(service, scheme):
    service.client("ada").post("/sweeps", json=sent())
    head = {"authorization": scheme, "cookie": f"llm-sweeps={service.tokens['ada']}"}
    assert browser(service).post("/sweeps/first/stop", headers=head).status_code in (401, 403)
    assert service.queue.get("first").state == "queued"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("token=ada.x", 303),
        ("a=1&token=ada.x&b=2", 303),
        ("a=1&" * 200 + "token=ada.x", 303),
        ("token=ada.x%3B%20path=/", 401),
        ("token=%E2%80%A6", 401),
        ("token=%0d%0aSet-Cookie:%20x=y", 401),
        ("token=%22%5C", 303),
        ("token=" + "x" * 201, 401),
        ("token=%", 303),
        ("token=%00", 401),
        ("token=", 401),
        ("other=1", 401),
        ("", 401),
    ],
)
def test_a_form_for_a_token_is_never_an_error_of_the_server(service, form, status):
    head = {"content-type": "application/x-www-form-urlencoded"}
    answer = browser(service).post("/login", content=form, headers=head)
    assert answer.status_code == status
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == (status == 303)
    assert not any(line in cookie for cookie in cookies for line in "\r\n")


@pytest.mark.parametrize(("origin", "secure"), [(URL.replace("http:", "https:"), True), (URL, False), (None, False)])
def test_behind_a_proxy_with_tls_the_cookie_is_sent_by_tls_alone(service, origin, secure):
    answer = browser(service).post("/login", data={"token": "x"}, headers={"origin": origin} if origin else {})
    assert ("; Secure" in answer.headers["set-cookie"]) is secure


def test_a_reader_logs_out_and_no_other_site_logs_anybody_out(service):
    reed = browser(service)
    reed.cookies.set("llm-sweeps", service.tokens["reed"])
    assert reed.post("/logout", headers={"origin": "http://evil.example"}).status_code == 403
    answer = reed.post("/logout", headers={"origin": URL})
    assert (answer.status_code, 'llm-sweeps=""' in answer.headers["set-cookie"]) == (303, True)
    for path in ("/sweeps", "/plan", "/sweeps/old/clone", "/logout/", "/queue/old/priority"):
        assert service.client("reed").post(path, json={}).status_code == 403


@pytest.mark.parametrize("path", ["/sweeps/", "/queue/", "/sweeps/old/", "/health/", "/sweeps/old/report/"])
def test_a_slash_too_many_leads_to_no_address_without_tls(service, path):
    answer = service.client("root").get(path)
    assert (answer.status_code, answer.headers.get("location")) == (404, None)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("state=queued", 200),
        ("state=refused", 200),
        ("state=complete", 200),
        ("state=complte", 422),
        ("state=Complete", 422),
        ("state=", 422),
        ("modle=x", 422),
        ("model=x&limit=5", 422),
    ],
)
def test_a_filter_that_is_none_is_told_and_not_passed_over(service, query, status):
    answer = service.client("reed").get(f"/sweeps?{query}")
    assert answer.status_code == status
    assert status == 200 or answer.json()["errors"][0].startswith("error: ")


@pytest.mark.parametrize("priority", ["true", '"5"', "1.5", "[]", "null"])
def test_a_priority_is_a_whole_number(service, priority):
    service.client("ada").post("/sweeps", json=sent())
    head = {"content-type": "application/json"}
    answer = service.client("root").post("/queue/first/priority", content=f'{{"priority": {priority}}}', headers=head)
    assert (answer.status_code, service.queue.get("first").priority) == (422, 0)


def test_a_body_that_comes_by_single_bytes_has_one_deadline(service, monkeypatch):
    monkeypatch.setattr(guard, "SLOWEST_BODY_SECONDS", 0.2)
    head = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {service.tokens['ada']}".encode())]
    scope = {"type": "http", "query_string": b"", "scheme": "http", "http_version": "1.1", "headers": head,
             "client": ("127.0.0.1", 1), "method": "POST", "path": "/plan"}  # fmt: skip
    said = []

    async def drips():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def says(message):
        said.append(message)

    asyncio.run(asyncio.wait_for(service.app(scope, drips, says), 10))
    assert said[0]["status"] == 408


def test_a_stranger_fills_no_log_and_users_are_logged_all_the_same(service, monkeypatch):
    monkeypatch.setattr(guard, "FAILURE_RATE", guard.Rate(0.001, 3))
    for _ in range(10):
        assert service.client("nobody").post("/sweeps", json={}).status_code == 401
    assert service.client("nobody").request("X" * 5000, "/sweeps").status_code in (401, 405)
    service.client("ada").post("/sweeps", json=sent())
    lines = (service.folder / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["user"] for line in lines] == [None, None, None, "ada"]
    service.client("ada").request("Y" * 5000, "/sweeps")
    assert len((service.folder / "audit.jsonl").read_text().splitlines()[-1]) < 300


def test_a_log_that_can_not_be_written_is_told_to_the_admin_and_the_answer_stands(service, capsys):
    (service.folder / "audit.jsonl").mkdir()
    assert service.client("ada").post("/sweeps", json=sent()).status_code == 201
    assert "audit.jsonl: must be writable, got Is a directory; ada POST '/sweeps'" in capsys.readouterr().err
