"""The ledger: an append-only log of the sweep's events, from which all other files can be rebuilt.

A line is a JSON object with its own checksum. Each start of a driver has a number, its epoch, which its events carry:
what an older driver writes after a newer one has begun does not count. In an object store each line is an object; see
`sweeps.ledger.ledger_in_store`.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweeps.ledger.ledger_in_store import StoreLedger
from trainables.errors import UserError
from trainables.redaction import redact_all
from trainables.reliability import fault_injection
from trainables.storage.atomic import append_whole, sync
from trainables.storage.layout import LEDGER_FILE
from trainables.storage.object_store import Remote
from trainables.storage.working_copy import join_ledger

EPOCH = "driver_epoch"

Event = dict[str, Any]


class Line(NamedTuple):
    """A line of the ledger.

    Attributes:
        number: Counted from 1.
        event: The event; None where the line does not count.
        fault: Why the line does not count, in words; empty where it does.
    """

    number: int
    event: Event | None
    fault: str = ""


class Ledger:
    """Appends events to `ledger.jsonl`; safe to call from several threads of one process.

    Args:
        folder: The sweep's folder.
        epoch: The driver's number, for `append`; see `of_new_driver`.
        segments: The same ledger in an object store; None for a sweep in a plain folder.
    """

    def __init__(self, folder: Path, epoch: int = 0, segments: StoreLedger | None = None) -> None:
        self.path, self.epoch = folder / LEDGER_FILE, epoch
        self._segments = segments
        self._lock, self._order = threading.Lock(), threading.Lock()
        self._end_bytes = -1  # size of the file when this driver last wrote to it

    @classmethod
    def of_new_driver(cls, folder: Path, remote: Remote | None = None) -> Ledger:
        """Opens the ledger for a driver that begins now, with an epoch above all earlier ones.

        The driver must hold the lock of `sweeps.folder.driver_lock`, and append an event before it starts anything.

        Args:
            folder: The sweep's folder, or this node's copy of it, whose `ledger.jsonl` is replaced by the store's.
            remote: The sweep's place in an object store, if it has one.
        """
        here = cls(folder)
        events = ((raw, event) for raw in _raw_lines(here.path) if (event := unseal(raw)))
        own = [(event.get(EPOCH, 0), raw.decode() + "\n") for raw, event in events]
        if remote is None:
            return cls(folder, epoch=max((epoch for epoch, _ in own), default=0) + 1)
        segments = StoreLedger.of_new_driver(remote, own, seal)
        join_ledger(remote, here.path)
        return cls(folder, segments.epoch, segments)

    def append(self, kind: str, **fields: Any) -> None:
        """Writes one event without credentials, and waits until it is on the disk and in the store.

        Args:
            kind: What happened, such as `trial_submitted`.
            **fields: JSON values.

        Raises:
            OSError: The disk is full or can't be written.
            StoreError: The store can't be written; the event is on the disk, and goes there at the next start.
            UserError: A newer driver has begun, and this one must end.
        """
        what = _subject(kind, fields)
        event = {"event": kind, EPOCH: self.epoch, "unix_seconds": round(time.time(), 3), **redact_all(fields)}
        line = seal(event)
        with self._order:  # the file and the store must have the events in one order
            self._refuse_if_overtaken()
            append_line(self.path, line, self._lock, what)
            self._end_bytes = self.path.stat().st_size
            if self._segments:
                self._segments.append(line)

    def read(self) -> tuple[list[Event], list[int]]:
        """Returns all events that count, and the numbers of lines, from 1, that do not."""
        lines = list(self.lines())
        return [line.event for line in lines if line.event], [line.number for line in lines if line.fault]

    def faults(self) -> list[str]:
        """Returns a sentence for each line that does not count."""
        return [f"{LEDGER_FILE} line {line.number} {line.fault}" for line in self.lines() if line.fault]

    def lines(self) -> Iterator[Line]:
        newest = 0
        for number, raw in enumerate(_raw_lines(self.path), start=1):
            event = unseal(raw)
            if event is None:
                # A crash or a full disk in the middle of a write.
                torn = not raw.endswith(b'"}')
                yield Line(number, None, "was cut off" if torn else "is not what was written (its checksum differs)")
            elif event.get(EPOCH, 0) < newest:
                yield Line(number, None, f"was written by driver {event[EPOCH]} after driver {newest} had begun")
            else:
                newest = event.get(EPOCH, 0)
                yield Line(number, event)

    def _refuse_if_overtaken(self) -> None:
        # The folder's lock keeps drivers apart, except on file systems whose locks do not reach other nodes. A file of
        # the expected size has no other writer; only otherwise is it read again.
        if not self.path.exists() or self.path.stat().st_size == self._end_bytes:
            return
        newest = max((line.event.get(EPOCH, 0) for line in self.lines() if line.event), default=0)
        if newest > self.epoch:
            got, remedy = f"driver {newest}, which began after this one", "this one ends, and nothing is lost"
            raise UserError(str(self.path.parent), "must have one driver at a time", got, remedy)


def _raw_lines(path: Path) -> list[bytes]:
    text = path.read_bytes() if path.exists() else b""
    return text.removesuffix(b"\n").split(b"\n") if text else []


def seal(event: Event) -> str:
    """Serializes an event as a line whose last key is the CRC-32 of all before it."""
    body = json.dumps(event, separators=(",", ":"))
    return f'{body[:-1]},"crc32":"{zlib.crc32(body.encode()):08x}"}}\n'


def unseal(line: bytes) -> Event | None:
    """Parses a line; None where the checksum does not match."""
    head, mark, tail = line.rstrip(b"\n").rpartition(b',"crc32":"')
    if not mark or len(tail) != 10 or tail[8:] != b'"}':
        return None
    body = head + b"}"
    if f"{zlib.crc32(body):08x}".encode() != tail[:8]:
        return None
    return json.loads(body)


def _subject(kind: str, fields: Mapping[str, Any]) -> str:
    trial = fields.get("trial") or fields.get("spec") or fields
    return f"{kind} {trial.get('trial_id', '')}".rstrip()


def append_line(path: Path, line: str, lock: threading.Lock, what: str, *, durable: bool = True) -> None:
    """Appends one line, on a line of its own even after one that was cut off.

    Args:
        path: The file.
        line: With its newline.
        lock: Held by each thread that writes to the file.
        what: The line in short, for `trainables.reliability.fault_injection`.
        durable: Whether to wait until it is on the disk.
    """
    fault_injection.reached("ledger_due", what)
    with lock:
        begins = not path.exists()
        data = (b"" if begins or _ends_whole(path) else b"\n") + line.encode()
        fault_injection.reached_writing("line_torn", what, path, data)
        append_whole(path, data, durable=durable)
        if begins and durable:
            sync(path.parent)  # without it a new file may be missing after a power cut
    fault_injection.reached("ledger_written", what)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
