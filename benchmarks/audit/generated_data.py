"""Generated data for the audit: sound samples that share contexts, and faulty lines at known places.

The samples look like fine-tuning data to a search for duplicates: a table of some hundred bytes, several questions
about each, many figures, short answers. The seed determines everything.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HELDOUT_ITEMS = 500
EARLIER_KEPT = 2_000
YEARS = (2021, 2022, 2023)
SUBJECTS = ["cash", "land", "goods", "taxes", "rents", "loans", "wages", "bonds", "parts", "tools", "freight"]
KINDS = ["net", "gross", "deferred", "accrued", "current", "foreign", "leased", "unbilled", "prepaid", "restricted"]
TAILS = ["income", "costs", "assets", "liabilities", "receivables", "reserves", "charges", "benefits", "losses"]
PLACES = ["Alden", "Brook", "Corva", "Delph", "Esker", "Farlow", "Garth", "Hythe", "Irwell", "Jarrow", "Kelso"]
UNITS = ("(thousands)", "$000", "€ thousands", "£m — restated")
ASK = (
    "What were the {row} of {place} in {year}?",
    "How much did {place} report as {row} for {year}?",
    "According to the table, what is the {year} figure for {row}?",
)
# Faulty lines as shares of all lines; the rest is sound.
RATES = {
    "exact_duplicate": 0.02,
    "near_duplicate": 0.02,
    "conflicting_responses": 0.005,
    "leakage": 0.001,
    "mojibake": 0.002,
    "control_characters": 0.002,
    "format_departure": 0.002,
    "response_length": 0.001,
    "broken_json": 0.001,
    "wrong_type": 0.001,
    "missing_field": 0.001,
    "empty_response": 0.002,
    "repeated_id": 0.001,
}

Sample = dict[str, Any]
Truth = dict[str, list[int]]


def write_data(folder: Path, lines: int, seed: int = 0, rates: dict[str, float] = RATES) -> Truth:
    """Writes `train.jsonl` and `heldout.jsonl`; returns the faulty lines of the first by rule."""
    dice = random.Random(seed)
    held = [next(_samples(random.Random(f"heldout {i}"), f"h{i}-")) for i in range(HELDOUT_ITEMS)]
    with (folder / "heldout.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(item, ensure_ascii=False)}\n" for item in held)
    truth: Truth = defaultdict(list)
    samples = _samples(dice, "s")
    earlier: list[Sample] = []
    respelt: set[str] = set()
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for line in range(1, lines + 1):
            rule = _drawn(dice, rates)
            sample = next(samples)
            if rule and len(earlier) > EARLIER_KEPT // 2:
                made = FAULTS[rule](sample, dice.choice(earlier), dice.choice(held), dice)
                if rule == "near_duplicate" and isinstance(made, dict):
                    if made["prompt"] in respelt:  # the same slip in the same sample once more
                        rule = "exact_duplicate"
                    respelt.add(made["prompt"])
                truth[rule].append(line)
                file.write(f"{made if isinstance(made, str) else json.dumps(made, ensure_ascii=False)}\n")
                continue
            if len(earlier) < EARLIER_KEPT:
                earlier.append(sample)
            else:
                earlier[dice.randrange(EARLIER_KEPT)] = sample
            file.write(f"{json.dumps(sample, ensure_ascii=False)}\n")
    return dict(truth)


def _drawn(dice: random.Random, rates: dict[str, float]) -> str | None:
    at = dice.random()
    for rule, rate in rates.items():
        if (at := at - rate) < 0:
            return rule
    return None


def _samples(dice: random.Random, name: str) -> Iterator[Sample]:
    number = 0
    while True:
        place = f"{dice.choice(PLACES)} {dice.choice(TAILS).title()} {dice.randrange(1000)}"
        rows = [f"{kind} {dice.choice(SUBJECTS)} {dice.choice(TAILS)}" for kind in dice.sample(KINDS, 10)]
        figures = {(row, year): f"{dice.randrange(10_000, 9_999_999):,}" for row in rows for year in YEARS}
        table = [" | ".join([dice.choice(UNITS), *map(str, YEARS)])]
        table += [" | ".join([row, *(figures[row, year] for year in YEARS)]) for row in rows]
        context = "\n".join([f"{place}, notes to the accounts", *table])
        for row, year in dice.sample(sorted(figures), 6):
            question = dice.choice(ASK).format(row=row, place=place, year=year)
            prompt = f"{context}\n\nQuestion: {question}"
            yield {"id": f"{name}{number}", "source": "generated", "prompt": prompt, "response": figures[row, year]}
            number += 1


def _near(sample: Sample, earlier: Sample, dice: random.Random) -> Sample:
    prompt = earlier["prompt"]
    context, mark, question = prompt.partition("Question: ")
    swap = dice.randrange(4)
    if swap == 0:
        question = question.upper()
    elif swap == 1:
        context = context.replace(" | ", "  |  ")
    elif swap == 2:  # two letters of one word change places
        words = question.split(" ")
        at = max(range(len(words)), key=lambda i: len(words[i]) * words[i].isalpha())
        word = words[at]
        i = next(i for i in range(1, len(word)) if word[i] != word[i + 1])
        words[at] = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        question = " ".join(words)
    else:
        question = question.rstrip("?") + " ?"
    return earlier | {"id": sample["id"], "prompt": context + mark + question}


Fault = Callable[[Sample, Sample, Sample, random.Random], Sample | str]

FAULTS: dict[str, Fault] = {
    "exact_duplicate": lambda sample, earlier, held, dice: (
        earlier if dice.random() < 0.5 else earlier | {"id": sample["id"]}
    ),
    "near_duplicate": lambda sample, earlier, held, dice: _near(sample, earlier, dice),
    "conflicting_responses": lambda sample, earlier, held, dice: (
        earlier | {"id": sample["id"], "response": sample["response"]}
    ),
    "leakage": lambda sample, earlier, held, dice: (
        held | {"id": sample["id"], "prompt": held["prompt"].replace("\n", "\n ")}
        if dice.random() < 0.5
        else sample | {"prompt": f"{held['prompt']}\n{held['response']}\n\n{sample['prompt']}"}
    ),
    "mojibake": lambda sample, earlier, held, dice: (
        sample | {"prompt": sample["prompt"].replace("accounts", "“accounts”".encode().decode("cp1252", "replace"))}
    ),
    "control_characters": lambda sample, earlier, held, dice: sample | {"prompt": f"\x0b{sample['prompt']}"},
    "format_departure": lambda sample, earlier, held, dice: sample | {"prompt": f"<human>: {sample['prompt']}\n<bot>:"},
    "response_length": lambda sample, earlier, held, dice: sample | {"response": f"{sample['response']} " * 60},
    "broken_json": lambda sample, earlier, held, dice: json.dumps(sample)[:-9],
    "wrong_type": lambda sample, earlier, held, dice: sample | {"response": 7},
    "missing_field": lambda sample, earlier, held, dice: {
        key: value for key, value in sample.items() if key != "response"
    },
    "empty_response": lambda sample, earlier, held, dice: sample | {"response": " "},
    "repeated_id": lambda sample, earlier, held, dice: sample | {"id": earlier["id"]},
}
