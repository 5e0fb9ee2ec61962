"""The Python client and the MCP server, against a service that listens."""

import asyncio
import json
import sys

import httpx
import pytest
from mcp import Client as McpClient
from mcp import StdioServerParameters

from sweeps import client as client_module
from sweeps.client import TOKEN, Client, ServiceError
from sweeps.mcp_server import main
from tests.unit.sweeps.service.conftest import ROOT, SMOKE, listening
from trainables.errors import UserError


@pytest.fixture
def url(service):
    with listening(service.app) as url:
        yield url


@pytest.fixture
def ada(service, url):
    client = Client(url, service.tokens["ada"])
    yield client
    client.close()


def test_a_script_plans_sends_watches_stops_resumes_and_deletes(ada, monkeypatch):
    monkeypatch.setattr(client_module, "LOOK_EVERY_SECONDS", 0.01)
    assert ada.plan(SMOKE, ["name=first"])["text"] == "the plan\n"
    assert ada.queue() == []
    assert ada.submit(SMOKE, ["name=first"], client_id="x")["id"] == "first"
    assert ada.submit(SMOKE, ["name=first"], client_id="x")["state"] == "queued"
    assert [(one["id"], one["state"]) for one in ada.queue()] == [("first", "queued")]
    with pytest.raises(TimeoutError, match=r"first is queued after 0\.02 s"):
        ada.wait("first", 0.02)
    assert ada.pause("first")["state"] == "paused"
    assert ada.resume("first")["state"] == "queued"
    assert ada.stop("first")["state"] == "stopped"
    assert ada.wait("first")["queue"] == "stopped"
    assert ada.delete("first")["state"] == "removed"
    assert [row["name"] for row in ada.list(model="tiny")] == ["old"]
    assert ada.list(model="qwen") == []
    assert ada.sweep("old")["trial_ids"][1] == ada.leaderboard("old")["rows"][0]["trial_id"] == "t0001"
    assert ada.curve("old", "t0001")[0]["step"] == 1


def test_refusals_are_the_services_own_lines(service, ada, url):
    with pytest.raises(ServiceError, match=r"^serach: .*did you mean search") as error:
        ada.submit(SMOKE, ["name=first", "serach.trials=3"])
    assert error.value.status == 422
    for name in ("../old", "old/leaderboard", "?", ""):
        with pytest.raises(ServiceError):
            ada.leaderboard(name)
    ada.submit(SMOKE, ["name=first"])
    (service.storage / "first" / "trials" / "t1").mkdir(parents=True)
    with pytest.raises(ServiceError, match="must be running, got queued"):
        ada.drop_trial("first", "t1")
    with pytest.raises(ServiceError, match="token"):
        Client(url, "ada.x").list()


def test_no_token_and_no_service_are_one_line(monkeypatch, capsys):
    monkeypatch.delenv(TOKEN, raising=False)
    assert main(["http://127.0.0.1:9"]) == 2
    assert capsys.readouterr().err == f"error: {TOKEN}: must hold the service's token, got nothing; export {TOKEN}=…\n"
    monkeypatch.setattr(client_module, "BETWEEN_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9: must be a service, got ConnectError"):
        Client("http://127.0.0.1:9", "x").list()


def test_a_lost_answer_is_asked_for_again_under_the_same_id(service, ada, monkeypatch):
    monkeypatch.setattr(client_module, "BETWEEN_SECONDS", 0.0)
    request, lost = ada._http.request, []

    def loses_one(*given, **more):
        answer = request(*given, **more)
        if not lost:
            lost.append(more["json"]["client_id"])
            raise httpx.ReadError("reset")
        return answer

    monkeypatch.setattr(ada._http, "request", loses_one)
    assert ada.submit(SMOKE, ["name=first"])["id"] == "first"
    assert [entry.client_id for entry in service.queue.entries.values()] == lost


def test_an_agent_plans_and_sends_over_mcp(service, url):
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "sweeps.mcp_server", url],
        env={TOKEN: service.tokens["ada"], "PYTHONPATH": str(ROOT)},
        cwd=str(ROOT),
    )

    async def talk():
        async with McpClient(server) as agent:
            tools = (await agent.list_tools()).tools
            assert {"list_sweeps", "plan_sweep", "submit_sweep", "get_leaderboard"} <= {tool.name for tool in tools}
            assert all(tool.description for tool in tools)

            async def call(name, **given):
                answer = await agent.call_tool(name, given)
                return answer, answer.content[0].text if answer.content else ""

            _, text = await call("plan_sweep", config=SMOKE, overrides=["name=first"])
            assert json.loads(text)["forecast"] == {"sweep_flops": 1.0}
            assert service.queue.entries == {}
            await call("submit_sweep", config=SMOKE, overrides=["name=first"])
            assert list(service.queue.entries) == ["first"]
            refused, text = await call("submit_sweep", config=SMOKE, overrides=["name=second", "seed=666"])
            assert refused.is_error
            assert "data file must exist" in text
            _, text = await call("get_sweep", sweep_id="old")
            assert len(json.loads(text)["trial_ids"]) == 4

    asyncio.run(talk())


def of_a_proxy(answer):
    client = Client("http://127.0.0.1:9", "ada.x")
    client._http = httpx.Client(base_url="http://127.0.0.1:9", transport=httpx.MockTransport(lambda _: answer))
    return client


def answers(status, content):
    return httpx.Response(status, content=content if isinstance(content, str) else json.dumps(content))


NO_SERVICE = [
    *((502, content) for content in ("<html>", '"bad"', "[]", "null", '{"errors": "x"}', '{"errors": [1]}')),
    *((status, '{"detail": "none"}') for status in (404, 500, 302)),
    *((200, content) for content in ("null", '"x"', "5", "<html>", "")),
]


@pytest.mark.parametrize(("status", "content"), NO_SERVICE, ids=map(str, NO_SERVICE))
def test_an_answer_of_another_program_is_one_line(status, content):
    client = of_a_proxy(answers(status, content))
    for call in (client.list, client.queue, lambda: client.sweep("x"), lambda: client.submit("x")):
        with pytest.raises(UserError, match=f"must be a service, got status {status}; correct the address"):
            call()


def test_an_answer_that_can_not_be_unpacked_is_one_line(monkeypatch):
    monkeypatch.setattr(client_module, "BETWEEN_SECONDS", 0.0)
    client = Client("http://127.0.0.1:9", "ada.x")
    broken = httpx.MockTransport(
        lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip at all"))
    )
    client._http = httpx.Client(base_url="http://127.0.0.1:9", transport=broken)
    with pytest.raises(UserError, match="must be a service, got DecodingError"):
        client.list()


@pytest.mark.parametrize("name", [".", ".."])
def test_an_id_of_dots_is_sent_nowhere(name):
    """`/sweeps/a/trials/../stop` would be sent as `/sweeps/a/stop`, which stops the sweep."""
    client = of_a_proxy(answers(200, {}))
    calls = (client.sweep, client.stop, client.delete, client.leaderboard, lambda one: client.drop_trial("a", one))
    for call in (*calls, lambda one: client.curve("a", one)):
        with pytest.raises(UserError, match="id: must be that of a sweep or trial"):
            call(name)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8700", "", "file:///etc", "http://", "http://[bad", "http://h:port", "http:/x"]
)
def test_an_address_that_is_none_is_one_line(url, monkeypatch, capsys):
    monkeypatch.setenv(TOKEN, "ada.x")
    assert main([url]) == 2
    assert capsys.readouterr().err.startswith("error: URL: must be a service's address")


@pytest.mark.parametrize(("token", "sent"), [(" ada.x\n", "ada.x"), ("ada.…", None), ("a\nb", None), (" \n", None)])
def test_a_token_is_taken_without_the_line_break_of_its_file_and_never_shown(token, sent):
    if sent:
        assert Client("http://127.0.0.1:9", token)._http.headers["authorization"] == f"Bearer {sent}"
        return
    with pytest.raises(UserError, match="must hold the service's token") as refused:
        Client("http://127.0.0.1:9", token)
    assert token.strip() == "" or token not in str(refused.value)
