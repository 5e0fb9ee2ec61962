"""A simulated sweep around the real dispatcher, search, ledger and recorder's files."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import PROJECT
from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.driver.recorder import trial_record
from sweeps.lanes.dispatcher import Dispatcher
from sweeps.ledger.ledger import Ledger, append_line
from sweeps.search.optuna_search import Launch, SweepSearch
from trainables.config.trial_spec import TrialSpec
from trainables.data.epoch import REPORTS
from trainables.redaction import redact_all

BASE = 3.0  # the base model's loss, nats a token
POLL_SECONDS, WATCH_SECONDS, LOOK_SECONDS = 20.0, 20.0, 0.5  # as lanes and driver wait in a real sweep
CHECKPOINTS = 5
PARTS = ("ledger_of_ends", "ledger_of_proposals", "search", "look")


def config_in(folder: Path, sampler: str, trials: int) -> SweepConfig:
    changes = [f"storage_path={folder}", f"search.sampler={sampler}", f"search.trials={trials}"]
    config = load_config(PROJECT / "conf" / "smoke.yaml", changes)
    config.folder.mkdir()
    return config


@dataclass
class Account:
    """CPU seconds, wall seconds and events of one part."""

    seconds: float = 0.0
    wall_seconds: float = 0.0
    events: int = 0

    @contextmanager
    def event(self) -> Iterator[None]:
        """Measures the block, on one thread."""
        started, began = time.thread_time(), time.monotonic()
        yield
        self.wall_seconds += time.monotonic() - began
        self.seconds += time.thread_time() - started
        self.events += 1

    def figures(self) -> dict[str, float]:
        cpu, wall = (round(1e3 * total / max(1, self.events), 3) for total in (self.seconds, self.wall_seconds))
        return {"cpu_ms_an_event": cpu, "wall_ms_an_event": wall, "events": self.events}


@dataclass
class Simulation:
    """One sweep of stub lanes."""

    config: SweepConfig  # the sweep; its trials are proposed by its sampler
    lanes: int  # trials at once
    steps: int  # steps of a trial
    step_seconds: float  # what a step takes
    accounts: dict[str, Account] = field(default_factory=lambda: {name: Account() for name in PARTS})
    tune: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    recorder: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    incarnations: dict[str, int] = field(default_factory=dict)
    calls: int = 0

    async def run(self) -> dict[str, Any]:
        """Runs the sweep in real time; returns its figures."""
        self.client, self.ledger = Dispatcher(max_failures=0), Ledger(self.config.folder, epoch=1)
        self.search = SweepSearch(self.config, BASE, Launch({}, self._submitted))
        self.waiting, self.over = iter(range(self.config.search.trials)), asyncio.Event()
        began, cpu = time.monotonic(), time.process_time()
        helpers = [asyncio.create_task(work) for work in (self._recorder(), self._looker())]
        lanes = [asyncio.create_task(self._lane(f"lane-{number}")) for number in range(self.lanes)]
        await asyncio.gather(*(self._tune_trials() for _ in range(self.lanes)))
        await self.client.stop()
        self.over.set()
        await asyncio.gather(*lanes, *helpers)
        return self._figures(time.monotonic() - began, time.process_time() - cpu)

    def _figures(self, wall: float, cpu: float) -> dict[str, Any]:
        measured = sum(account.seconds for account in self.accounts.values())
        trained = self.config.search.trials * self.steps * self.step_seconds
        return {
            "lanes": self.lanes,
            "trials": self.config.search.trials,
            "wall_seconds": round(wall, 1),
            "cpu_seconds": round(cpu, 2),
            "cpu_share_of_wall": round(cpu / wall, 4),
            "lanes_busy": round(trained / (self.lanes * wall), 3),
            "dispatcher": {"cpu_ms_an_event": round(1e3 * (cpu - measured) / self.calls, 3), "events": self.calls},
            **{name: account.figures() for name, account in self.accounts.items()},
        }

    def _submitted(self, spec: TrialSpec) -> None:
        began = self.accounts["ledger_of_proposals"].seconds
        with self.accounts["ledger_of_proposals"].event():
            self.ledger.append("trial_submitted", spec=spec.model_dump())
        # The search calls this: its account must not count the ledger's time a second time.
        self.accounts["search"].seconds -= self.accounts["ledger_of_proposals"].seconds - began

    async def _call(self, method: str, *arguments: Any) -> Any:
        self.calls += 1
        return await getattr(self.client, method)(*arguments)

    async def _tune_trials(self) -> None:
        """Runs Tune trials one by one, as `sweeps.search.tune_trial` and Tune's loop do."""
        for number in self.waiting:
            spec = (await self._tell("suggest", str(number)))["spec"]
            await self._call("submit", spec["trial_id"], {"do": "trial", "spec": spec, "baseline": {}})
            seen, end = 0, None
            while end is None:
                answer = await self._call("poll", spec["trial_id"], seen, POLL_SECONDS)
                for report in answer["reports"]:
                    seen = report["seq"]
                    await self._tell("on_trial_result", str(number), report)
                end = answer["end"] if not answer["reports"] else None
            result = {"state": "complete", "objective": 2.0, "step": self.steps}
            await self._tell("on_trial_complete", str(number), result)

    async def _tell(self, method: str, *arguments: Any) -> Any:
        """Calls the search on Tune's only thread."""

        def call() -> Any:
            with self.accounts["search"].event():
                return getattr(self.search, method)(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self.tune, call)

    async def _lane(self, lane: str) -> None:
        self.incarnations[lane] = await self._call("join", lane, lane)
        seq = 0
        while (answer := await self._call("take", lane, self.incarnations[lane], seq, WATCH_SECONDS))["do"] != "stop":
            if answer["do"] == "work":
                seq += 1
                work = await self._call("work_of", answer["job_id"], WATCH_SECONDS)
                watching = asyncio.create_task(self._watch(lane, answer["job_id"]))
                await self._train(lane, answer["job_id"], work["spec"])
                watching.cancel()

    async def _watch(self, lane: str, job_id: str) -> None:
        while not await self._call("watch", lane, self.incarnations[lane], job_id, 1, WATCH_SECONDS):
            pass

    async def _train(self, lane: str, job_id: str, spec: dict[str, Any]) -> None:
        """Simulates an epoch: `REPORTS` progress messages, `CHECKPOINTS` points and the end."""
        began, points = time.monotonic(), []
        post = partial(self._call, "post", lane, self.incarnations[lane], job_id, 1)
        for number in range(1, REPORTS + 1):
            step = round(self.steps * number / REPORTS)
            await asyncio.sleep(max(0.0, began + step * self.step_seconds - time.monotonic()))
            await post({"kind": "progress", "step": step, "steps": self.steps})
            if number % (REPORTS // CHECKPOINTS) == 0:
                points.append(self._point(step))
                await post({"kind": "areas", "seq": len(points), **points[-1]})
        checkpoints = [{**point, "path": f"trials/{job_id}/checkpoints/step-{point['step']}"} for point in points]
        end = {"state": "complete", "spec": spec, "steps": self.steps, "checkpoints": checkpoints, "findings": []}
        await post({"kind": "end", "end": end})

    def _point(self, step: int) -> dict[str, Any]:
        areas = {name: {"nll": 2.0, "exact_match": 0.5, "items": 60} for name in self.config.heldout.areas}
        return {"step": step, "areas": areas, "objective": 2.0, "fraction": step / self.steps}

    async def _recorder(self) -> None:
        """Writes every trial's end to ledger and `trials.jsonl`, as `sweeps.driver.recorder` does."""
        born, seen, lock = 0, 0, threading.Lock()
        while seen < self.config.search.trials:
            answer = await self._call("ended_since", born, seen, 2.0)
            born, seen = answer["born"], seen + len(answer["ended"])
            for job in answer["ended"]:
                await asyncio.get_running_loop().run_in_executor(self.recorder, self._record, job, lock)

    def _record(self, job: dict[str, Any], lock: threading.Lock) -> None:
        with self.accounts["ledger_of_ends"].event():
            record = redact_all(trial_record(job))
            self.ledger.append("trial_ended", trial=record, device_hours=0.0)
            append_line(
                self.config.folder / "trials.jsonl", json.dumps(record) + "\n", lock, "trials.jsonl", durable=False
            )

    async def _looker(self) -> None:
        """Asks for the status twice a second, as `sweeps.driver.supervisor` does, and pickles it as Ray would."""
        born = changes = 0
        while not self.over.is_set():
            status = await self._call("status", born, changes)
            born, changes = status["born"], status["changes"]
            with self.accounts["look"].event():
                pickle.dumps(status)  # Ray pickles what an actor returns
            await asyncio.sleep(LOOK_SECONDS)
