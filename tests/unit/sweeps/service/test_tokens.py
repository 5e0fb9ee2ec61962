"""Tokens at one moment: many wrong ones, many right ones, and one that is revoked while it is hashed."""

import asyncio
import time

import httpx
import yaml

from sweeps.service.access import users as module
from sweeps.service.access.guard import FAILURE_RATE
from sweeps.service.access.users import Users
from tests.unit.sweeps.service.conftest import URL


def statuses(service, tokens):
    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url=URL) as client:
            requests = (client.get("/queue", headers={"authorization": f"Bearer {token}"}) for token in tokens)
            return [answer.status_code for answer in await asyncio.gather(*requests)]

    return asyncio.run(ask())


def test_of_many_wrong_tokens_at_one_moment_no_more_are_hashed_than_the_rate_allows(service, monkeypatch):
    hashed, plain = [], module.matches

    def slowly(token, stored):
        hashed.append(token)
        time.sleep(0.002)
        return plain(token, stored)

    monkeypatch.setattr(module, "matches", slowly)
    found = statuses(service, [f"ada.{number}" for number in range(100)])
    most = FAILURE_RATE.burst + 2  # half a token a second comes back
    assert FAILURE_RATE.burst <= len(hashed) <= most
    assert found.count(401) == len(hashed)
    assert found.count(429) == 100 - len(hashed)


def test_right_tokens_that_come_together_all_pass(service):
    everybody = [*service.tokens.values()] * 20
    assert statuses(service, everybody) == [200] * len(everybody)


def test_a_token_that_is_revoked_while_it_is_hashed_does_not_pass_again(tmp_path, monkeypatch):
    users, plain = Users(tmp_path), module.matches
    token = users.add("ada", "user")

    def revoked_meanwhile(given, stored):
        tree = yaml.safe_load(users.path.read_text())
        tree["users"]["ada"]["token"] = module.hashed("ada.another")
        users.path.write_text(yaml.safe_dump(tree))
        users.read()  # as another request does
        return plain(given, stored)

    monkeypatch.setattr(module, "matches", revoked_meanwhile)
    assert users.who(token) == "ada"  # it was asked before the change
    assert users.remembered(token) is None
    monkeypatch.setattr(module, "matches", plain)
    assert users.who(token) is None
    assert users.remembered(token) is None
