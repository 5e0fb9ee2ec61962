"""Renderings of real chat templates, where their wheels are unpacked; and of a few in a few words, always."""

import os
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.templates.comparison import compare
from benchmarks.templates.conversations import CONVERSATIONS
from tests.unit.trainables.data.template import helpers

FOLDER = os.environ.get("CHAT_TEMPLATES")  # of unpacked wheels of trl and axolotl
RIGHT = (
    "equal",
    "equal, labels inside {% generation %}",
    "equal but for an end token, named",
    "refused: a part would be lost",
    "refused by transformers too",
)


@pytest.mark.parametrize(
    ("template", "name", "outcome"),
    [
        (helpers.PLAIN, "system, two turns", "equal"),
        (helpers.ONLY_PARTS, "two turns", "equal"),
        (helpers.MARKED, "other scripts", "equal, labels inside {% generation %}"),
        (helpers.NO_END, "two turns", "equal but for an end token, named"),
        (helpers.NEXT_MARKER, "two turns", "equal but for an end token, named"),
        (helpers.PLAIN, "reasoning", "refused: a part would be lost"),
        (helpers.PLAIN, "tool round", "refused: a part would be lost"),
        (helpers.WITH_CALLS, "text beside a call", "equal"),
        ("{{ raise_exception('no') }}", "one turn", "refused by transformers too"),
        ("{% for m in messages %}{{ m.content | length }}{{ m.content }}{% endfor %}", "one turn", "REFUSED"),
    ],
)
def test_the_outcome_of_a_comparison(tmp_path, template, name, outcome):
    path = tmp_path / "made.jinja"
    path.write_text(template)
    assert compare(path, name)[0] == outcome


@pytest.mark.skipif(not FOLDER, reason="set CHAT_TEMPLATES to a folder of unpacked wheels of trl and axolotl")
def test_real_templates_are_rendered_as_transformers_does_and_labels_are_the_answers():
    paths = sorted(Path(str(FOLDER)).rglob("*.jinja"))
    found = {(str(path), name): compare(path, name) for path in paths for name in CONVERSATIONS}
    print(Counter(outcome for outcome, _ in found.values()))
    wrong = {key: one for key, one in found.items() if one[0] not in RIGHT}
    # Gemma 4's template puts the text beside a tool call behind the tool's answer.
    assert all("gemma4" in name or "diffusion_gemma" in name for name, _ in wrong), wrong
    assert {(name, outcome) for (_, name), (outcome, _) in wrong.items()} <= {("text beside a call", "REFUSED")}
    assert len(paths) > 0
