"""The demo data set: reproducible, well formed, disjoint from its held-out areas, with answers that are right."""

import json
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "conf" / "data" / "demo"
SIZES = {
    "train.jsonl": 400,
    "heldout/tables.jsonl": 60,
    "heldout/invoices.jsonl": 60,
    "heldout/contracts.jsonl": 60,
    "heldout/reports.jsonl": 60,
}
UNITS = {"k": "thousand", "000": "thousand", "m": "million", "mn": "million", "bn": "billion"}


def read(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DEMO / name).read_text(encoding="utf-8").splitlines()]


def context(sample: dict[str, str]) -> str:
    return sample["prompt"].split("\n\nQuestion: ")[0]


def test_the_generator_writes_the_committed_file(tmp_path: Path) -> None:
    out = tmp_path / "train.jsonl"
    subprocess.run([sys.executable, DEMO / "make_train.py", "--out", out], check=True)
    assert out.read_bytes() == (DEMO / "train.jsonl").read_bytes()


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_size_fields_and_shape(name: str, size: int) -> None:
    samples = read(name)
    assert len(samples) == size
    for sample in samples:
        assert list(sample) == ["id", "area", "source", "group", "prompt", "response"]
        assert all(value and value == value.strip() for value in sample.values())
        assert re.fullmatch(r"[^\n].*\n\nQuestion: [^\n]+[.?]", sample["prompt"], flags=re.DOTALL)
        assert not sample["response"].endswith(".")
        assert sample["area"] == ("tables" if name == "train.jsonl" else Path(name).stem)


@pytest.mark.parametrize("name", SIZES)
def test_a_group_is_one_context(name: str) -> None:
    pairs = {(sample["group"], context(sample)) for sample in read(name)}
    assert len({group for group, _ in pairs}) == len({text for _, text in pairs}) == len(pairs)


def test_ids_and_prompts_are_unique_over_all_files() -> None:
    samples = [sample for name in SIZES for sample in read(name)]
    assert len({sample["id"] for sample in samples}) == sum(SIZES.values())
    assert len({sample["prompt"] for sample in samples}) == sum(SIZES.values())


def test_no_heldout_context_or_title_is_in_train() -> None:
    heldout = [context(sample) for name in SIZES if name != "train.jsonl" for sample in read(name)]
    train = {line for sample in read("train.jsonl") for line in context(sample).splitlines()}
    rows = {line for text in heldout for line in text.splitlines()}
    assert not rows & train


def unit_of(title: str) -> tuple[str, str]:
    symbol, short = re.findall(r"([$€£]) ?(000|thousand|million|billion|k|mn|m|bn)\b", title)[0]
    return symbol, UNITS.get(short, short)


def number(cell: str) -> Decimal:
    size = Decimal(cell.strip("()").replace(",", ""))
    return -size if cell.startswith("(") else size


def in_brackets(value: Decimal) -> str:
    return f"({-value:,})" if value < 0 else f"{value:,}"


def work_out(kind: str, prompt: str) -> str:
    """The answer from the prompt's text alone, by other means than the generator's."""
    table, question = prompt.split("\n\nQuestion: ")
    title, *lines = table.splitlines()
    (corner, *columns), *rows = [line.split(" | ") for line in lines]
    cells = {(row, column): cell for row, *values in rows for column, cell in zip(columns, values, strict=True)}
    words = set(re.findall(r"\w+", question))
    named_columns = [column for column in columns if set(column.split()) <= words]
    named_rows = [row for row, *_ in rows if set(row.split()) <= words]
    symbol, unit = unit_of(title)
    if kind == "extreme":
        (column,) = named_columns or columns
        pick = max if words & {"highest", "first", "peak"} else min
        return pick((row for row, *_ in rows), key=lambda row: number(cells[row, column]))
    named = [(row, column) for row in named_rows for column in named_columns]
    if kind == "lookup":
        (key,) = named
        return f"{symbol}{cells[key]} {unit}"
    (first, second) = (number(cells[key]) for key in named)
    over_time = (len(named_rows) == 2) == (corner in {"Year", "Quarter", "Month"})
    if kind == "sum":
        return f"{symbol}{in_brackets(first + second)} {unit}"
    if kind == "difference":
        return f"{symbol}{in_brackets(second - first if over_time else abs(second - first))} {unit}"
    one, other = named_rows if len(named_rows) == 2 else named_columns
    in_table_order = re.search(rf"\b{one}\b.*\b{other}\b", question) is not None
    # A later figure is compared with an earlier one however they are named; labels in the question's order.
    larger, smaller = (first, second) if in_table_order and not over_time else (second, first)
    return "Yes" if (larger > smaller) == bool(words & {"higher", "rise", "above"}) else "No"


def test_every_training_answer_follows_from_its_table() -> None:
    samples = read("train.jsonl")
    kinds = Counter(sample["id"].split("-")[1] for sample in samples)
    assert kinds == {"lookup": 176, "extreme": 92, "yesno": 64, "difference": 38, "sum": 30}
    for sample in samples:
        assert sample["response"] == work_out(sample["id"].split("-")[1], sample["prompt"]), sample["id"]
