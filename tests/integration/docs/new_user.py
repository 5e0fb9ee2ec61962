"""A new user's path, step by step: a sweep from a fresh clone, its report, its export, an answer of the exported model.

Each step does what the one before it printed, as a reader of the terminal would.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

from tests.integration.conftest import environment

ROOT = Path(__file__).resolve().parents[3]
GENERATE = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, most, prompts = sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
for prompt in prompts:
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=most, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    print(json.dumps(text.strip()))
"""


def clone(to: Path) -> Path:
    """A clone of this checkout's commit, beside the demo model where it has been fetched before."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(to)], check=True, timeout=60)
    models = ROOT / ".cache" / "models"
    if models.is_dir():
        (to / ".cache").mkdir()
        (to / ".cache" / "models").symlink_to(models.resolve())
    return to


def shell(line: str, folder: Path, seconds: int = 240, **more: str) -> str:
    """Runs a command as it is printed, with the clone's Python if it has one; returns what it printed."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment(**_of_clone(folder), **more),
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def interrupted(line: str, folder: Path, when: Path, seconds: int = 240) -> str:
    """Runs a command until the file `when` is there, and presses Ctrl-C; returns what it printed."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {line}"],
        cwd=folder,
        env=environment(**_of_clone(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        deadline = time.monotonic() + seconds
        while not when.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGINT)
        printed, _ = running.communicate(timeout=seconds)
    assert running.returncode == 130, printed
    return printed


def _of_clone(folder: Path) -> dict[str, str]:
    # Without a .venv in it, the clone's packages are imported, not those that this environment has installed in place.
    own = folder / ".venv" / "bin"
    path = f"{own if own.is_dir() else os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": str(folder)}


def printed_path(printed: str, label: str) -> str:
    """What stands behind a label in the command's last lines."""
    (found,) = re.findall(rf"^{label}: (.+)$", printed, flags=re.MULTILINE)
    return found


def printed_command(printed: str, label: str) -> str:
    """A command, or a path, of the block of commands at the end."""
    (found,) = re.findall(rf"^  {label} +(\S.*)$", printed, flags=re.MULTILINE)
    return found


class Headings(HTMLParser):
    """The texts of a page's section headings."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag, attrs):
        self._inside = tag == "h2"
        self.found += [""] if self._inside else []

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.found[-1] += data


def read_report(path: Path) -> list[str]:
    """The report's headings; it must be one page that asks the network for nothing."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<(?:script|img|iframe)[^>]+src=[\"']?http|<link[^>]+href=[\"']?http", text)
    page = Headings()
    page.feed(text)
    return page.found


def open_report(path: Path, chromium: str) -> list[str]:
    """The headings that a reader sees in a browser that has no network, and hears no complaint of."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(offline=True)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        chart = page.locator(".chart").first  # drawn when it comes into view
        chart.scroll_into_view_if_needed()
        chart.locator(".main-svg").first.wait_for()
        found = [heading.inner_text() for heading in page.query_selector_all("h2")]
        browser.close()
    assert complaints == []
    return found


def answers(folder: Path, best: Path, prompts: list[str], most_tokens: int) -> list[str]:
    """What the exported model says, loaded by plain transformers in a process that has none of this project's code."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", GENERATE, str(best), str(most_tokens)],
        cwd=folder,
        env=environment(),
        input=json.dumps(prompts),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
