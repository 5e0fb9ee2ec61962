"""`make serve-demo`: two users queue a sweep each, one is stopped and resumed from the page, and the index has both."""

import json
import subprocess
import sys

import httpx
import pytest

from analysis.index import read_index
from sweeps.client import Client
from tests.browser import find_chromium
from tests.integration.conftest import HUNG_SECONDS, ROOT, environment
from tests.integration.service.test_service import Service

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = find_chromium()
OVERRIDES = ["search.trials=3", "wandb.mode=disabled", "model.method=full"]


def add_user(storage, name):
    command = [sys.executable, "-m", "sweeps.serve", str(storage), "--add-user", name]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    ).stdout.strip()


def events(folder):
    return [json.loads(line)["event"] for line in (folder / "ledger.jsonl").read_text().splitlines()]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_two_users_share_the_machine(tmp_path):
    config, said = (ROOT / "conf" / "smoke.yaml").read_text(), []
    service = Service(tmp_path)
    url = str(service.client.base_url)
    try:
        tokens = {name: add_user(tmp_path, name) for name in ("ada", "bob")}
        ada, bob = (Client(url, token) for token in tokens.values())
        assert ada.submit(config, ["name=adas", *OVERRIDES])["forecast_hours"] > 0
        bob.submit(config, ["name=bobs", *OVERRIDES])
        print("queued:", [(one["id"], one["state"], one["waits_for"]) for one in bob.queue()])
        assert {one["id"]: one["waits_for"] for one in bob.queue()}["bobs"] == "the end of adas"
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(HUNG_SECONDS * 1000)
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(url)
            page.get_by_label("Token").fill(tokens["ada"])
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("link", name="adas").first.click()
            service.until("adas", lambda row: "t0001" in row["trial_ids"])
            page.get_by_role("button", name="Stop", exact=True).click()
            page.locator("#state", has_text="stopped").wait_for()
            print("ada has stopped adas from the page")
            page.get_by_role("button", name="Resume", exact=True).click()
            page.locator("#state", has_text="complete").wait_for()
            page.locator("#curves .main-svg").first.wait_for()
            browser.close()
        assert bob.wait("bobs", HUNG_SECONDS)["state"] == "complete"
        rows = {row["name"]: row for row in ada.list()}
        assert {name: (row["user"], row["state"]) for name, row in rows.items()} == {
            "adas": ("ada", "complete"), "bobs": ("bob", "complete")}  # fmt: skip
        assert bob.leaderboard("adas")["winner"] == rows["adas"]["winner"]
        with pytest.raises(httpx.HTTPStatusError):
            httpx.get(f"{url}/sweeps/adas/report").raise_for_status()  # without a token
    finally:
        service.kill()
    index = {row["name"]: row for row in read_index(str(tmp_path))}
    print("index:", [(name, row["state"], row["verdict"]) for name, row in index.items()])
    assert {name: row["state"] for name, row in index.items()} == {"adas": "complete", "bobs": "complete"}
    assert (events(tmp_path / "adas").count("sweep_started"), events(tmp_path / "bobs").count("sweep_started")) == (
        2,
        1,
    )
    assert [text for text in said if "401" not in text] == []  # the form for a token comes with this status
