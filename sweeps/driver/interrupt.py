"""Ctrl-C and SIGTERM as a flag, so that a sweep ends in order: lanes freed, ledger closed, exit code 130."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """While entered, the first signal sets the flag and the second ends the process at once."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._before: dict[int, Any] = {}

    def is_set(self) -> bool:
        """Whether the user wants to stop."""
        return self._flag.is_set()

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.arm()
        return self

    def arm(self) -> None:
        """Takes the signals; once more after Ray was started, which puts a handler that ends the process on SIGTERM."""
        for number in self._before:
            signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._flag.is_set():
            raise KeyboardInterrupt
        self._flag.set()
        print("\ninterrupted: stopping the trials; once more to end at once", flush=True)
