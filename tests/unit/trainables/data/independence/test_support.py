"""Whether answers follow from their prompts, as a table of cases and on sets of both kinds."""

import json
from pathlib import Path

import pytest

from trainables.config.data_sections import FieldNames
from trainables.data.independence.examine import examine
from trainables.data.independence.findings import findings
from trainables.data.independence.support import KNOWLEDGE_SHARE, answer_support
from trainables.data.independence.texts import AREA_LIMITS, sample_texts
from trainables.data.json_lines import RawLine
from trainables.data.samples import Sample, parse_sample

PROJECT = Path(__file__).resolve().parents[5]
HELDOUT = PROJECT.parent / "shared" / "data" / "fin_tables" / "heldout"


def made(prompt, response, line=1):
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return Sample(f"s{line}", messages, {}, line, "made.jsonl")


@pytest.mark.parametrize(
    ("prompt", "response", "mean", "knowledge"),
    [
        ("The heron eats fish.\n\nWhat does it eat?", "fish", 1.0, 0),
        ("What does a heron eat?", "fish", 0.0, 1),
        ("Rates: 4,000 and 12.50.\n\nSum them.", "4000 and 12.5", 1.0, 0),
        ("Translate: good evening", "noswaith dda", 0.0, 1),
        ("The heron waits in the reeds for fish.\n\nSummarize.", "A heron waits for fish", 1.0, 0),
        ("苍鹭在浅水中等待鱼。\n\n它等待什么?", "等待鱼", 1.0, 0),
        ("中国的首都是什么?", "北京", 0.0, 1),
        ("Is that so?", "Yes.", 0.0, 0),  # no content: nothing to be judged
    ],
)
def test_the_support_of_an_answer(prompt, response, mean, knowledge):
    found = answer_support(sample_texts([made(prompt, response)], AREA_LIMITS, 0))
    assert (found.mean, found.knowledge) == (mean, knowledge)
    assert len(found.examples) == knowledge


def test_plain_texts_answer_nothing():
    found = answer_support(sample_texts([Sample("a", [], {}, 1, text="A page.")], AREA_LIMITS, 0))
    assert (found.judged, found.share) == (0, 0.0)


def test_a_set_of_knowledge_is_warned_of_with_examples():
    towns = [3 * "abcdefghij"[i % 10] + 3 * "klm"[i // 10] for i in range(30)]
    asked = [made(f"What is the capital of land {i}?", town, i) for i, town in enumerate(towns)]
    read = [made(f"Land {i} has the capital {town}.\n\nWhat is it?", town, i) for i, town in enumerate(towns)]
    (warning,) = [text for rule, _, text in findings(examine(asked, {"held": read})) if rule == "knowledge_answers"]
    assert "of data.train 100% of 30 answers the prompt holds less than 20% of the words, such as s0: " in warning
    assert "held" not in warning
    rules = [rule for rule, _, _ in findings(examine(read, {"held": read}))]
    assert "knowledge_answers" not in rules


@pytest.mark.skipif(not HELDOUT.is_dir(), reason="needs the fin_tables data")
@pytest.mark.parametrize("area", ["contracts", "receipts", "intent", "fin_reports", "fin_tables"])
def test_real_reading_tasks_are_no_sets_of_knowledge(area):
    lines = (HELDOUT / f"{area}.jsonl").read_bytes().splitlines()
    samples = [parse_sample("x", RawLine(i, line), FieldNames()) for i, line in enumerate(lines, 1)]
    found = answer_support(sample_texts(samples, AREA_LIMITS, 0))
    assert found.share < KNOWLEDGE_SHARE / 1.3
    json.dumps(found.examples)
