"""Ctrl-C, SIGTERM and SIGHUP as a flag, so that the sweep can free its lanes and close its ledger (exit code 130)."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """While entered, sets a flag on the first signal and raises KeyboardInterrupt on the second Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._before: dict[int, Any] = {}

    def is_set(self) -> bool:
        return self._flag.is_set()

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        if self._before[signal.SIGHUP] is signal.SIG_IGN:  # started by nohup: it is to outlive its terminal
            del self._before[signal.SIGHUP]
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
        # A terminal that closes sends SIGHUP twice: the system to its programs, and the shell to its jobs.
        if self._flag.is_set() and number != signal.SIGHUP:
            raise KeyboardInterrupt
        if not self._flag.is_set():
            self._flag.set()
            with contextlib.suppress(OSError):  # the terminal may be gone
                print("\ninterrupted: stopping the trials; once more to end at once", flush=True)
