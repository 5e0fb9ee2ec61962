"""A trial's files of steps and held-out items, a JSON line each; a resumed trial cuts them at its step."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainables.storage.atomic import append_whole, sync, write_whole
from trainables.storage.json_numbers import json_line
from trainables.storage.layout import CURVE_FILE, ITEMS_FILE, SPEED_FILE, TRIAL_LINES
from trainables.storage.writer_lock import WriterLock
from trainables.training.curve_recorder import StepRecord
from trainables.training.hooks import Speed

Lines = list[dict[str, Any]]


class TrialFiles:
    """`curve.jsonl`, `heldout.jsonl` and `speed.jsonl` of one trial: one uninterrupted curve after any failure.

    Args:
        folder: The trial's folder.
        writes: Whether this worker writes; the others only read.
        driver_epoch: Number of the driver that sent this attempt at the trial.
    """

    def __init__(self, folder: Path, *, writes: bool, driver_epoch: int) -> None:
        self._folder, self._writes, self._writer = folder, writes, WriterLock(folder, driver_epoch)

    def begin(self, step: int) -> tuple[Lines, Lines]:
        """Cut the files after a step, 0 for empty files; return what is left of the curve and of the items.

        Raises:
            OSError: They can't be written.
            OvertakenError: A newer driver's attempt has begun.
        """
        if not self._writes:
            return self._kept(CURVE_FILE, step)[0], self._kept(ITEMS_FILE, step)[0]
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._writer.begun():
            curve, items, _ = (self._cut(name, step) for name in TRIAL_LINES)
        return curve, items

    def add_steps(self, records: Iterable[StepRecord]) -> None:
        """Append steps to the curve; raises `OvertakenError`, writing nothing, if another attempt has begun."""
        with self._writer.held():
            append_whole(self._folder / CURVE_FILE, "".join(json_line(asdict(record)) for record in records).encode())

    def add_speed(self, speed: Speed) -> None:
        """Append how long the last steps took; raises as `add_steps` does."""
        with self._writer.held():
            append_whole(self._folder / SPEED_FILE, json_line(asdict(speed)).encode())

    def add_items(self, lines: Iterable[str]) -> None:
        """Append the items of a checkpoint; raises as `add_steps` does."""
        with self._writer.held():
            append_whole(self._folder / ITEMS_FILE, "".join(lines).encode())

    def sync(self) -> None:
        """Wait until all appended lines are on disk."""
        for name in (CURVE_FILE, ITEMS_FILE):
            if (self._folder / name).exists():
                sync(self._folder / name)

    def _cut(self, name: str, step: int) -> Lines:
        for left in self._folder.glob(f".{name}.*"):  # of a worker that was killed while it replaced the file
            left.unlink()
        lines, texts = self._kept(name, step)
        write_whole(self._folder / name, "".join(texts))
        return lines

    def _kept(self, name: str, step: int) -> tuple[Lines, list[str]]:
        path, lines, texts = self._folder / name, [], []
        if step and path.exists():
            for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
                line = json.loads(text) if text.endswith("\n") else None  # a torn last line lies after the step
                if line is None or line["step"] > step:
                    break
                lines.append(line)
                texts.append(text)
        return lines, texts
