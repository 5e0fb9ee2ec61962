"""Ctrl-C and SIGTERM as a flag, so that the sweep can free its lanes and close its ledger (exit code 130)."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """While entered, sets a flag on the first signal and raises KeyboardInterrupt on the second."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._before: dict[int, Any] = {}

    def is_set(self) -> bool:
        return self._flag.is_set()

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.arm()
        return self

    def arm(self) -> None:
        """Installs the handlers; call it again after Ray was started."""
        # Ray's `init` replaces the SIGTERM handler by one that exits at once.
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
