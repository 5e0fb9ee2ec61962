"""What a user reads is in the field's words, in short sentences, and names no trial by its id alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.output.leaderboard_notes import legend, lines_below
from analysis.output.verdict import verdict
from analysis.report.elements.blocks import Copies, Points, Text, Tiles
from analysis.report.elements.material import read_material
from analysis.report.page import SECTIONS
from tests.unit.analysis.conftest import end_screen
from tests.unit.analysis.synthetic_sweep import write_synthetic_sweep

ROOT = Path(__file__).parents[2]
# Private words, riddles and figures of speech that readers of earlier versions stumbled over.
PRIVATE = re.compile(
    r"\b(told|behind the first|to the most|their like|its like|nats a token|this project's prior|lanes?|slots?"
    r"|own process|the process|less the|ended|see that they|draws?|drawn|by the most|nobody|whoever|whatever)\b",
    re.IGNORECASE,
)
# A message that quotes a key of the config, or a verb in its usual sense.
ALLOWED = {
    "lanes x workers_per_lane must fit the cluster's ": "keys of the config",
    "recomputing would draw another dropout": "draws a random mask",
    '\n\n    "fail": no lane starts;': "documents a key of the config",
    "no slot is free": "an error of the program, not of the user",
    "the lane goes on with": "a worker's log",
    ", and this lane is driver ": "of two drivers: for who runs the cluster",
    "must be written by the newest driver's lanes": "of two drivers: for who runs the cluster",
    "write resources.lanes or": "a key of the config",
    "this lane ends": "of two drivers: for who runs the cluster",
}
MOST_WORDS = 25


def strings() -> Iterator[tuple[str, str]]:
    """Every text of the packages that holds a space, docstrings aside, with its place."""
    for package in ("analysis", "sweeps", "trainables"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and is_doc(node)}
            for node in ast.walk(tree):
                text = node.value if isinstance(node, ast.Constant) and id(node) not in docs else None
                if isinstance(text, str) and " " in text.strip():
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def is_doc(node: ast.AST) -> bool:
    first = node.body[0] if getattr(node, "body", None) else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)


def test_no_text_that_a_user_reads_holds_a_private_word() -> None:
    found = [
        f"{place}: {word[0]!r} in {text[:80]!r}"
        for place, text in strings()
        for word in PRIVATE.finditer(text)
        if not any(allowed in text for allowed in ALLOWED)
    ]
    assert found == []


def test_the_search_for_private_words_finds_them() -> None:
    for text in ("the lowest, told apart from all", "2.391 nats a token", "1 CPU lane of 1", "above their like"):
        assert PRIVATE.search(text), text
    for text in ("held-out loss 5.72 → 3.32", "the difference is not significant", "less than 5 minutes"):
        assert not PRIVATE.search(text), text


def sentences(text: str) -> list[str]:
    """Sentences, and clauses that a colon, a semicolon, a list's point or brackets set apart."""
    return [part for part in re.split(r"(?<!%)[.;:()](?:\s|$)|\s\(|\s·\s|\n", text) if part]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return read_material(write_synthetic_sweep(tmp_path_factory.mktemp("wording"), 12))


def test_sentences_of_terminal_and_report_are_short(material) -> None:
    board = material.board
    texts = [verdict(board), *legend(board), *lines_below(board), *(one["reason"] for one in board["advice"])]
    for make in SECTIONS:
        for block in section.blocks if (section := make(material)) and section.name != "data" else ():
            if isinstance(block, Text):
                texts.append(block.text)
            elif isinstance(block, Points):
                texts += [text for _, text in block.points]
            elif isinstance(block, Tiles):
                texts += [note for tile in block.tiles for note in tile.notes]
            assert not isinstance(block, Copies) or all(text for _, text in block.texts)
    long = {part for text in texts for part in sentences(text) if len(part.split()) > MOST_WORDS}
    assert long == set()


def test_lines_of_the_last_screen_fit_80_columns_and_name_trials_with_their_lr(material) -> None:
    shown = end_screen(material.board, 80)
    assert max(map(len, shown.splitlines())) <= 80
    prose = [line for line in shown.splitlines() if not re.match(r"  ([#–]|\d+=? )", line)]
    alone = [line for line in prose if re.search(r"\bt\d{4}\b(?! ·|, ?(step)?)", line)]
    assert alone == []
