"""Texts for the tests: two ways of asking about made-up companies, and the project's own and shared data."""

import json
import random
from pathlib import Path

import pytest

from trainables.data.independence.texts import TRAIN_LIMITS, SampleText, sample_texts
from trainables.data.samples import Sample

ROOT = Path(__file__).resolve().parents[5]
DEMO = ROOT / "conf" / "data" / "demo"
SHARED = ROOT.parent / "shared" / "data" / "fin_tables"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not there")

ROWS = ["Revenue", "Costs", "Cash", "Wages", "Rent", "Taxes", "Stocks", "Debts"]
STYLES = {
    "plain": ["What was the {row} in {year}?", "Which figure does the table give for {row} in {year}?"],
    "curt": ["{year} {row}, pls", "need {row} ({year}) asap"],
}


def sample(name, prompt, response, **meta):
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return Sample(name, messages, meta, 1, "made.jsonl")


def made(style, contexts, seed, questions=2):
    """Samples of one style: `contexts` tables of a company each, `questions` to a table."""
    rng = random.Random(seed)
    samples = []
    for i in range(contexts):
        company = "".join(rng.choices("bcdfghklmnprstvw", k=4)) + "o"
        rows = rng.sample(ROWS, 4)
        figures = {row: rng.randint(10, 999) for row in rows}
        table = "\n".join([f"{company.title()} plc", *(f"{row} | {figures[row]}" for row in rows)])
        for j, row in enumerate(rng.sample(rows, questions)):
            question = rng.choice(STYLES[style]).format(row=row.lower(), year=rng.randint(1990, 2020))
            answer = f"${figures[row]} million" if style == "plain" else f"{figures[row]}"
            samples.append(sample(f"{style}-{seed}-{i}-{j}", f"{table}\n\nQuestion: {question}", answer))
    return samples


def text(question="", context="", response="", name="x", group="g", source=None):
    return SampleText(name, group, source, context, question, response)


def texts(samples):
    return sample_texts(samples, TRAIN_LIMITS, 0)


def demo(name):
    return _read(DEMO / name)


def shared(name):
    return _read(SHARED / name)


def _read(path):
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [sample(r.pop("id"), r.pop("prompt"), r.pop("response"), **r) for r in records]


def halves(samples, group_of, seed):
    """The samples of a random half of the groups, and the others."""
    names = sorted({group_of(sample) for sample in samples})
    chosen = set(random.Random(seed).sample(names, len(names) // 2))
    return [s for s in samples if group_of(s) in chosen], [s for s in samples if group_of(s) not in chosen]
