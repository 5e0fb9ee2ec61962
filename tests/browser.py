"""A browser for the tests of pages, and what axe-core finds on one."""

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
AXE = Path(__file__).resolve().parent / "data" / "axe" / "axe.min.js"
GRAVE = ("serious", "critical")


def find_chromium():
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def serious(page):
    """Findings of axe-core that are serious or critical, as (rule, what it is, an element that breaks it)."""
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [(one["id"], one["help"], one["nodes"][0]["html"]) for one in found if one["impact"] in GRAVE]
