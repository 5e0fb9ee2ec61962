"""The experiment service under load: users who watch a running sweep, and requests at a fixed rate, on the loopback.

Each user holds an event stream open; the sweep stands still meanwhile. Requests are sent at their time, whether or not
earlier ones were answered, so a slow service is not spared. A request in five is the health check, which is the
measure: it needs no token and reads nothing. Accepted: no error, the service's memory flat, and the slowest routes'
99th percentile at most ten times the health check's in the same run.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.common import PROJECT, environment, machine, parser, print_result, say
from sweeps.service.access.users import Users
from sweeps.service.queue.queue import SERVICE_FOLDER

SWEEP = PROJECT / "tests" / "data" / "sweep_of_0_1"
LIVE = "live"  # the sweep that is watched
ONE = f"/sweeps/{LIVE}"
PATHS = ["/", "/queue", "/sweeps", ONE, f"{ONE}/leaderboard", f"{ONE}/trials/t0001/curve"]
HEALTH = "/health"
MOST_TIMES = 10.0  # of the health check's 99th percentile
MOST_GROWTH = 1.1  # of the service's memory, from a quarter of the run to its end


def make_storage(storage: Path, sweeps: int, users: int) -> dict[str, str]:
    """Fills a storage with copies of a sweep, one of which runs, and returns the tokens of its users."""
    for number in range(sweeps):
        shutil.copytree(SWEEP, storage / (LIVE if number == 0 else f"sweep-{number}"))
    manifest = storage / LIVE / "manifest.json"
    manifest.write_text(re.sub(r'"state": "\w+"', '"state": "running"', manifest.read_text()))
    (storage / SERVICE_FOLDER).mkdir()
    known = Users(storage / SERVICE_FOLDER)
    known.add("admin", "admin")  # or the service would make one
    return {name: known.add(name, "reader") for name in (f"user{number}" for number in range(users))}


class Load:
    """Sends the requests and keeps their seconds by path.

    Args:
        url: The service's.
        tokens: By user.
        seed: Of the order of the requests.
    """

    def __init__(self, url: str, tokens: dict[str, str], seed: int) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self.told: list[int] = []  # events of each user's stream
        self._rng = random.Random(seed)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._clients = [
            httpx.AsyncClient(base_url=url, timeout=60, headers={"authorization": f"Bearer {token}"}, limits=limits)
            for token in tokens.values()
        ]

    async def run(self, rate: float, seconds: float) -> None:
        """Sends `rate` requests a second for some seconds, beside one open event stream a user."""
        self.told = [0] * len(self._clients)
        watching = [asyncio.create_task(self._watch(user)) for user in range(len(self._clients))]
        begun, sent = time.monotonic(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            path = HEALTH if number % 5 == 0 else self._rng.choice(PATHS)
            sent.append(asyncio.create_task(self._ask(self._clients[number % len(self._clients)], path)))
        await asyncio.gather(*sent)
        self.errors += [f"a stream has ended: {task.exception()}" for task in watching if task.done()]
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        for client in self._clients:
            await client.aclose()

    async def _ask(self, client: httpx.AsyncClient, path: str) -> None:
        begun = time.perf_counter()
        try:
            status = (await client.get(path)).status_code
        except httpx.HTTPError as error:
            self.errors.append(f"{path}: {type(error).__name__}")
            return
        self.seconds[path].append(time.perf_counter() - begun)
        if status != 200:
            self.errors.append(f"{path}: status {status}")

    async def _watch(self, user: int) -> None:
        async with self._clients[user].stream("GET", f"{ONE}/events", timeout=None) as stream:
            stream.raise_for_status()
            async for line in stream.aiter_lines():
                self.told[user] += line.startswith("data: ")


async def measured(process: psutil.Process, load: Load, rate: float, seconds: float) -> list[float]:
    """Runs the load; the service's memory in MiB after a quarter of the time and at the end."""
    running = asyncio.create_task(load.run(rate, seconds))
    await asyncio.sleep(seconds / 4)
    memory = [process.memory_info().rss / 2**20]
    await running
    return [*memory, process.memory_info().rss / 2**20]


def summary(load: Load, memory: list[float]) -> dict[str, Any]:
    """The figures, and whether they are accepted."""
    tails = {path: float(np.percentile(seconds, 99)) for path, seconds in sorted(load.seconds.items())}
    ratio = max(tail for path, tail in tails.items() if path != HEALTH) / tails[HEALTH]
    everything = np.concatenate([seconds for path, seconds in load.seconds.items() if path != HEALTH])
    return {
        "requests": sum(map(len, load.seconds.values())),
        "events": sum(load.told),
        "errors": load.errors[:20],
        "p50_ms": {path: round(1e3 * float(np.median(seconds)), 2) for path, seconds in sorted(load.seconds.items())},
        "p99_ms": {path: round(1e3 * tail, 2) for path, tail in tails.items()},
        "p99_over_health": round(float(np.percentile(everything, 99)) / tails[HEALTH], 2),
        "slowest_route_over_health": round(ratio, 2),
        "memory_mib": [round(one, 1) for one in memory],
        "accepted": not load.errors and ratio <= MOST_TIMES and memory[1] <= MOST_GROWTH * memory[0],
    }


def main() -> None:
    options = parser("service", __doc__.splitlines()[0], "--seconds 60")
    options.add_argument("--users", type=int, default=50, help="who watch")
    options.add_argument("--rate", type=float, default=200.0, help="requests a second")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--sweeps", type=int, default=100, help="in the storage")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder).resolve()
        tokens = make_storage(storage, given.sweeps, given.users)
        command = [sys.executable, "-m", "sweeps.serve", str(storage), "--port", "0"]
        service = subprocess.Popen(command, cwd=PROJECT, env=environment(1), stdout=subprocess.PIPE, text=True)
        try:
            assert service.stdout
            url = re.search(r"http://\S+", service.stdout.readline())
            assert url, "the service has not begun"
            load = Load(url[0], tokens, given.seed)
            say(f"{given.users} users watch, {given.rate:g} requests a second for {given.seconds:g} s")
            memory = asyncio.run(measured(psutil.Process(service.pid), load, given.rate, given.seconds))
        finally:
            service.kill()
            service.wait()
    print_result({"machine": machine(), **summary(load, memory)})


if __name__ == "__main__":
    main()
