"""From a clone to an answer of the exported model, with the tiny model and with `make demo`.

The tutorial's commands, which `make test` runs, go the same way but for the clone and the prompts.
"""

import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

import pytest

from tests.browser import find_chromium
from tests.integration.docs.new_user import (
    answers,
    clone,
    interrupted,
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
    assert "verified: reloaded with transformers, logits " in exported
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


OWN_DATA = """
mkdir -p own/heldout
head -64 conf/data/demo/train.jsonl > own/own.jsonl
head -12 conf/data/demo/heldout/tables.jsonl > own/heldout/tables.jsonl
head -12 conf/data/demo/heldout/invoices.jsonl > own/heldout/invoices.jsonl
"""
# `init` writes for models of billions of weights. Of the tiny one a token is a byte, and a trial takes seconds.
SMALL = "search.trials=6 training.batch_size=4 data.max_tokens=1024 " + " ".join(
    f"heldout.areas.{area}.max_new_tokens=8" for area in ("tables", "invoices")
)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_a_new_users_whole_path_in_one_go(tmp_path):
    """Own data through every command, Ctrl-C and resume among them; prints what each step took.

    With `NEW_USER_INSTALLS=1` it begins with `make demo` in the clone, which installs.
    """
    folder, begun = clone(tmp_path / "clone"), time.monotonic()

    def step(line, seconds=900):
        started = time.monotonic()
        printed = shell(line, folder, seconds)
        print(f"{time.monotonic() - started:6.1f} s  {line.strip().splitlines()[0]}")
        return printed

    if os.environ.get("NEW_USER_INSTALLS"):
        step("make demo", 3600)
    step(OWN_DATA)
    heldout = "own/heldout/tables.jsonl own/heldout/invoices.jsonl"
    written = step(f"llm-sweeps init own/own.jsonl --heldout {heldout} --model random:tiny-llama --to own.yaml")
    assert "python -m sweeps.run own.yaml --plan" in written
    assert "⟦" in step(f"llm-sweeps plan own.yaml {SMALL}"), "a sample as the model sees it"

    sweep = folder / "outputs" / "own"
    stopped = interrupted(f"llm-sweeps run own.yaml {SMALL}", folder, sweep / "trials.jsonl", 900)
    before = (sweep / "trials.jsonl").read_text()
    (resume,) = re.findall(r"^continue it: (.+)$", stopped, flags=re.MULTILINE)
    scored, prompts, best = walk(folder, step(resume), "{prompt}")
    trials = [json.loads(line) for line in (sweep / "trials.jsonl").open()]
    assert (sweep / "trials.jsonl").read_text().startswith(before)
    assert sorted(trial["trial_id"] for trial in trials) == [f"t{number:04d}" for number in range(1, 7)]

    winner = json.loads((sweep / "leaderboard.json").read_text())["winner"]["trial_id"]
    assert winner in step("llm-sweeps rank outputs/own")
    assert "report.html" in step("llm-sweeps report outputs/own")
    step("llm-sweeps suggest outputs/own --to next.yaml")
    step("llm-sweeps plan next.yaml")
    said = step(f"echo {shlex.quote(prompts[0])} | llm-sweeps chat outputs/own --max-new-tokens 4")
    assert re.search(rf"^base model: (?s:.*)^{winner} · \S+: ", said, flags=re.MULTILINE)
    assert len(answers(tmp_path, best, prompts, 8)) == len(scored) == ITEMS
    print(f"{time.monotonic() - begun:6.1f} s  in all")
