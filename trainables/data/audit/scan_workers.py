"""Scanning shared among processes: each is told its source once, then gets chunks of lines and gives numbers back.

Plain subprocesses and not `multiprocessing`: that would start each worker by importing the caller's main module, and
with it whatever frameworks the caller uses.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO, cast

from trainables.data.audit.line_scan import Chunk, Scanned, Scanner, Source
from trainables.errors import UserError
from trainables.project import PROJECT_ROOT

COMMAND = [sys.executable, "-c", "from trainables.data.audit.scan_workers import serve; serve()"]
WAITING_CHUNKS = 2  # a process, so that none waits for lines


class Workers:
    """A few processes that scan chunks of one source; to be closed after use.

    Args:
        source: Where the lines come from.
        processes: How many, 1 and up.
    """

    def __init__(self, source: Source, processes: int) -> None:
        paths = [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]
        # One thread each: the processes are what shares the CPUs.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "RAYON_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            for _ in range(processes)
        ]
        self._free: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(processes)
        for process in self._processes:
            _send(source, process)
            self._free.put(process)

    def scan(self, chunks: Iterable[Chunk]) -> Iterator[Scanned]:
        """What each chunk gave, in order; only a few chunks are read ahead.

        Raises:
            UserError: A process ended, as when memory runs out.
        """
        waiting: deque[Future[Scanned]] = deque()
        for chunk in chunks:
            waiting.append(self._threads.submit(self._scan, chunk))
            if len(waiting) > WAITING_CHUNKS * len(self._processes):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _scan(self, chunk: Chunk) -> Scanned:
        process = self._free.get()
        try:
            _send(chunk, process)
            return cast(Scanned, pickle.load(cast(BinaryIO, process.stdout)))
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            remedy = "free memory, or look for an error above"
            raise UserError("audit", "its processes must run to their end", f"exit {process.wait()}", remedy) from error
        finally:
            self._free.put(process)

    def close(self) -> None:
        """Ends the processes; chunks that were not asked for are lost."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
            process.wait()
        self._threads.shutdown()
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):  # a chunk half sent
                    cast(BinaryIO, pipe).close()


def _send(what: object, process: subprocess.Popen[bytes]) -> None:
    pipe = cast(BinaryIO, process.stdin)
    pickle.dump(what, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def serve() -> None:
    """The worker's side: reads a source and then chunks from stdin until its end, and answers each on stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at the keyboard it is for the process that started this one
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed must not come between the answers
    scanner = Scanner(pickle.load(sys.stdin.buffer))
    while True:
        try:
            chunk = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(scanner.scan(chunk), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
