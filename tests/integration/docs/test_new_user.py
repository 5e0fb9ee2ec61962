"""From a clone to an answer of the exported model, with the tiny model and with `make demo`.

The tutorial's commands, which `make test` runs, go the same way but for the clone and the prompts.
"""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.browser import find_chromium
from tests.integration.docs.new_user import (
    answers,
    clone,
    open_report,
    printed_command,
    printed_path,
    read_report,
    shell,
)

SECTIONS = (
    "Outcome",
    "Leaderboard",
    "Training curves",
    "Held-out areas",
    "Data checks",
    "Next sweep",
    "Reproducibility",
)
ITEMS = 4


def walk(folder, printed, template):
    """Every step after the sweep; `template` makes the prompt that the model was trained on."""
    sweep = Path(printed_path(printed, "Done. Results"))
    board = json.loads((sweep / "leaderboard.json").read_text())
    winner = board["winner"]
    assert winner["trial_id"] in printed
    assert f"{winner['trial_id']}, step {winner['step']})" in printed

    report = Path(printed_command(printed, "Report"))
    headings = read_report(report)
    assert set(SECTIONS) <= set(headings)
    if chromium := find_chromium():
        assert open_report(report, chromium) == headings

    exported = shell(printed_command(printed, "Export"), folder, seconds=900)
    assert f"{winner['trial_id']} at step {winner['step']}" in exported
    assert "reloaded in a fresh process" in exported
    best = folder / "best"
    assert {"adapter_model.safetensors", "tokenizer.json", "README.md", "reproduce.yaml"} <= set(os.listdir(best))

    told = [json.loads(line) for line in (sweep / "trials" / winner["trial_id"] / "heldout.jsonl").open()]
    scored = [item for item in told if item["step"] == winner["step"] and item["area"] == "invoices"][:ITEMS]
    texts = {item["id"]: item for item in map(json.loads, (folder / "conf/data/demo/heldout/invoices.jsonl").open())}
    prompts = [template.format(prompt=texts[item["id"]]["prompt"]) for item in scored]
    return scored, prompts, best


@pytest.mark.slow
def test_a_new_users_path_with_the_tiny_model(tmp_path):
    folder = clone(tmp_path / "clone")
    printed = shell(f"{sys.executable} -m sweeps.run conf/smoke.yaml search.trials=2", folder)
    scored, prompts, best = walk(folder, printed, "{prompt}")
    generated = answers(tmp_path, best, prompts, 8)
    assert len(generated) == len(scored) == ITEMS, "random weights say nothing, but they say it"


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_new_users_path_with_make_demo(tmp_path):
    """With `NEW_USER_INSTALLS=1` make installs into the clone's own .venv, else this environment is used as it is."""
    folder = clone(tmp_path / "clone")
    venv = Path(sys.executable).parents[1]
    line = "make demo" if os.environ.get("NEW_USER_INSTALLS") else f"make demo VENV={venv} -o {venv}/.installed"
    printed = shell(line, folder, seconds=2000, OMP_NUM_THREADS=str(os.cpu_count()))
    scored, prompts, best = walk(folder, printed, "{prompt}\nAnswer:")
    generated = answers(tmp_path, best, prompts, 12)
    assert generated == [item["answer"] for item in scored], "the exported model answers as the sweep scored it"
