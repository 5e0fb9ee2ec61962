"""The page in a real browser: log in, look at a sweep, plan one, queue and stop it. Skipped without a Chromium."""

import os
import shutil

import pytest

from sweeps.folder.dropped_trials import asked_to_drop
from sweeps.ledger.ledger import Ledger
from tests.browser import find_chromium, serious
from tests.unit.sweeps.service.conftest import SMOKE, listening, sent

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = find_chromium()
PATIENCE_MS = 60_000
SHOTS = os.environ.get("SHOTS")  # a folder for screenshots


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
        page.get_by_label("Name").fill("second")
        page.locator("#clone").get_by_label("Overrides").fill("search.trials=7")
        page.get_by_role("button", name="Show the difference").click()
        assert page.locator("#changes tr", has_text="search.trials").inner_text().split() == ["search.trials", "4", "7"]
        assert service.queue.get("second") is None
        page.get_by_role("button", name="Queue the clone").click()
        page.get_by_text("queued second").wait_for()
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("heading", name="Sweeps").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Token").wait_for()
        browser.close()
    assert service.queue.get("first") is None
    assert service.queue.get("second").state == "queued"
    assert [text for text in said if "401" not in text] == []  # the form for a token comes with this status


def running(service):
    """A sweep of ada's that runs, with the trials of the old one; all but the first are still training."""
    service.client("ada").post("/sweeps", json=sent("live", "budget.device_hours=2"))
    service.client("bob").post("/sweeps", json=sent("waits", "budget.device_hours=3"))
    folder = service.storage / "live"
    shutil.copytree(service.storage / "old", folder)
    shutil.copy(service.queue.config(service.queue.get("live")), folder / "sweep.yaml")
    lines = (folder / "trials.jsonl").read_text().splitlines(keepends=True)
    (folder / "trials.jsonl").write_text(lines[0])
    for trial in ("t0002", "t0003"):
        Ledger(folder, epoch=9).append("trial_submitted", spec={"trial_id": trial, "kind": "search"})
    service.queue.record("starting", "live", attempt=1, before=0)
    return folder


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_pages_fit_and_read_well_on_any_screen_and_a_trial_is_dropped(service):
    folder = running(service)
    faults = []
    with listening(service.app) as url, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, scheme in ((400, "light"), (400, "dark"), (1600, "light"), (1600, "dark")):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
            )
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(url)
            page.get_by_label("Token").fill(service.tokens["ada"])
            page.get_by_role("button", name="Log in").click()
            for path in ("/", "/page/new", "/page/sweeps/live", "/page/sweeps/waits"):
                page.goto(url + path)
                if path.endswith("live"):
                    page.locator("#curves .main-svg").first.wait_for()
                    page.get_by_role("button", name="Drop t0002").wait_for()
                if path.endswith("waits"):
                    page.get_by_text("the end of live").wait_for()
                wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                faults += [f"{path} at {width}: {wide} px too wide"] if wide > 0 else []
                faults += [f"{path} at {width}, {scheme}: {one}" for one in serious(page)]
                if SHOTS:
                    name = f"{path.strip('/').replace('/', '-') or 'list'}-{width}-{scheme}.png"
                    page.screenshot(path=os.path.join(SHOTS, name), full_page=True)
            if width == 1600 and scheme == "dark":
                page.goto(f"{url}/page/sweeps/live")
                page.get_by_role("button", name="Drop t0002").click()
                page.get_by_text("is being dropped").wait_for()
            context.close()
        browser.close()
    assert "\n".join(faults) == ""
    assert asked_to_drop(folder) == {"t0002": "ada"}
