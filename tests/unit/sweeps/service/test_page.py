"""The page in a real browser: log in, look at a sweep, plan one, queue and stop it. Skipped without a Chromium."""

import os
import shutil

import pytest

from tests.unit.sweeps.service.conftest import SMOKE, listening

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE_MS = 60_000


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_user_does_it_all_on_the_page(service):
    said = []
    with listening(service.app) as url, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.get_by_label("Token").fill(service.tokens["ada"])
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("link", name="old").click()
        page.locator("#curves .main-svg").first.wait_for()
        page.get_by_role("link", name="New sweep").click()
        page.get_by_label("Config").fill(SMOKE)
        page.get_by_label("Overrides").fill("name=first")
        page.get_by_role("button", name="Plan", exact=True).click()
        page.get_by_text("the plan").wait_for()
        page.get_by_role("button", name="Send as planned").click()
        page.get_by_role("button", name="Stop").click()
        page.locator("#state", has_text="stopped").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Token").wait_for()
        browser.close()
    assert service.queue.get("first").outcome == "stopped"
    assert [text for text in said if "401" not in text] == []  # the form for a token comes with this status
