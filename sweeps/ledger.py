"""The ledger: an append-only record of the sweep, the truth from which all else can be rebuilt.

One JSON object a line, each with its own checksum, so that a line torn by a crash is noticed and never read as data.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Ledger:
    """Appends events to `ledger.jsonl`; safe to call from several threads of one process.

    Args:
        folder: The sweep's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"
        self._lock = threading.Lock()

    def append(self, kind: str, **fields: Any) -> None:
        """Writes one event and waits until it is on the disk.

        Args:
            kind: What happened, such as `trial_ended`.
            **fields: JSON values.
        """
        append_line(self.path, seal({"event": kind, "unix_seconds": round(time.time(), 3), **fields}), self._lock)

    def read(self) -> tuple[list[Event], list[int]]:
        """All events, and the 1-based numbers of lines whose checksum does not fit (torn or changed)."""
        events, bad = [], []
        if not self.path.exists():
            return [], []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            event = unseal(line)
            if event is None:
                bad.append(number)
            else:
                events.append(event)
        return events, bad


def seal(event: Event) -> str:
    """The event as a line whose last key is the CRC-32 of all before it."""
    body = json.dumps(event, separators=(",", ":"))
    return f'{body[:-1]},"crc32":"{zlib.crc32(body.encode()):08x}"}}\n'


def unseal(line: bytes) -> Event | None:
    """The event of a line, or None where the checksum does not fit."""
    head, mark, tail = line.rstrip(b"\n").rpartition(b',"crc32":"')
    if not mark or len(tail) != 10 or tail[8:] != b'"}':
        return None
    body = head + b"}"
    if f"{zlib.crc32(body):08x}".encode() != tail[:8]:
        return None
    return json.loads(body)


def append_line(path: Path, line: str, lock: threading.Lock) -> None:
    """Appends one line, on a line of its own even after a torn one, and waits until it is on the disk."""
    with lock, path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
