"""Reads the documentation's examples: which blocks are commands, what they are said to print, which are files.

A block that is run has a marker on the line above its fence, which no reader of the page sees:

- `<!-- run -->`: a console block; `$ ` begins a command, the lines after it are what it prints;
- `<!-- run slow -->`: likewise, left to `make test-slow`;
- `<!-- file NAME -->`: what a file holds;
- `<!-- config -->`: a sweep's config that must load.

A shown line of `…` stands for any number of lines, a line that ends with ` …` for a longer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^<!-- (?P<marker>[^>]+) -->\n```\w*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
NUMBER = re.compile(r"[-+−]?\d[\d.,]*(?:e[-+]?\d+)?")
LEFT_OUT = "…"


@dataclass(frozen=True)
class Block:
    """A marked block of a page: the marker's words and the block's text."""

    marker: str
    body: str


@dataclass(frozen=True)
class Command:
    """A command as a page shows it, and the lines that it is said to print."""

    line: str
    shown: tuple[str, ...]


def pages() -> list[Path]:
    """Every page for users, the tutorial first: the others' commands read the sweep that it leaves."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/howto").glob("*.md"))]
    return sorted(found, key=lambda page: page.name != "tutorial.md")


def blocks(text: str) -> list[Block]:
    """The marked blocks of a page, in order."""
    return [Block(found["marker"].strip(), found["body"]) for found in BLOCK.finditer(text)]


def commands(body: str) -> Iterator[Command]:
    """The commands of a console block; a line that ends with a backslash goes on in the next."""
    line, shown = "", []
    for raw in body.replace("\\\n", " ").splitlines():
        if raw.startswith("$ "):
            if line:
                yield Command(line, tuple(shown))
            line, shown = " ".join(raw[2:].partition("  #")[0].split()), []
        elif raw.strip():
            shown.append(raw)
    if line:
        yield Command(line, tuple(shown))


def unlike(shown: Sequence[str], printed: str) -> str | None:
    """The first shown line that was not printed, in order, numbers and spaces apart; None where all were."""
    left = iter([_shape(line) for line in printed.splitlines()])
    for line in shown:
        shape = _shape(line)
        if shape == LEFT_OUT:
            continue
        begins = shape.removesuffix(f" {LEFT_OUT}") if shape.endswith(f" {LEFT_OUT}") else None
        if not any(one == shape or (begins is not None and one.startswith(begins)) for one in left):
            return line
    return None


def _shape(line: str) -> str:
    return " ".join(NUMBER.sub("#", line).split())
