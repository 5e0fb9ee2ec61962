"""Where a trial's steps and held-out items go, a line each; a trial that goes on cuts them at its step."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainables.storage.atomic import append_whole, sync, write_whole
from trainables.storage.json_numbers import json_line
from trainables.storage.layout import CURVE_FILE, ITEMS_FILE
from trainables.storage.writer_lock import WriterLock
from trainables.training.curve_recorder import StepRecord

Lines = list[dict[str, Any]]


class TrialFiles:
    """`curve.jsonl` and `heldout.jsonl` of one trial: whatever had happened, they hold one curve.

    Args:
        folder: The trial's.
        writes: Whether this worker writes; the others read alone.
        driver_epoch: Number of the driver that sent this attempt at the trial.
    """

    def __init__(self, folder: Path, *, writes: bool, driver_epoch: int) -> None:
        self._folder, self._writes, self._writer = folder, writes, WriterLock(folder, driver_epoch)

    def begin(self, step: int) -> tuple[Lines, Lines]:
        """Cuts both files after a step; 0 starts them anew.

        Returns:
            What is left of the curve and of the items.

        Raises:
            OSError: They can't be written.
            OvertakenError: A newer driver's attempt has begun.
        """
        if not self._writes:
            return self._kept(CURVE_FILE, step)[0], self._kept(ITEMS_FILE, step)[0]
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._writer.begun():
            curve, items = (self._cut(name, step) for name in (CURVE_FILE, ITEMS_FILE))
        return curve, items

    def add_steps(self, records: Iterable[StepRecord]) -> None:
        """Appends steps to the curve.

        Raises:
            OvertakenError: Another attempt at the trial has begun; nothing is written.
        """
        with self._writer.held():
            append_whole(self._folder / CURVE_FILE, "".join(json_line(asdict(record)) for record in records).encode())

    def add_items(self, lines: Iterable[str]) -> None:
        """Appends the items of a checkpoint.

        Raises:
            OvertakenError: Another attempt at the trial has begun; nothing is written.
        """
        with self._writer.held():
            append_whole(self._folder / ITEMS_FILE, "".join(lines).encode())

    def sync(self) -> None:
        """Waits until what was appended is on disk: a state that is must not be ahead of its curve."""
        for name in (CURVE_FILE, ITEMS_FILE):
            if (self._folder / name).exists():
                sync(self._folder / name)

    def _cut(self, name: str, step: int) -> Lines:
        for left in self._folder.glob(f".{name}.*"):  # by a worker that was killed while it cut
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
