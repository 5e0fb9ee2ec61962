"""Seconds a trial beyond the bare training loop: lanes against a Tune trial that calls `TorchTrainer.fit()`.

Three sides run in turn, in processes of their own, on the same data, model and thread count:

- bare: the loop, the held-out scores and the final checkpoint in one warm process (`benchmarks.overhead.bare`);
- lanes: `python -m sweeps.run`, W&B offline, random search (and once GP, whose time is the search's). Counted from the
  base model's scores, when the first lane is up, to the last trial in the ledger;
- stock: `benchmarks.overhead.stock`, one trial at a time, counted from `Tuner.fit()` on a running Ray to the last
  trial's end. Its worker does the same job as a lane.

The model is tiny with random weights and an epoch is a few steps, so that the overhead shows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import PROJECT, environment, machine, parser, prepare, print_result, rounded, say
from sweeps.ledger.ledger import Ledger

CONFIG = "conf/smoke.yaml"
MOST_LANES_SECONDS, LEAST_RATIO = 0.3, 50.0  # targets

Side = dict[str, Any]


def main() -> None:
    options = parse()
    result: dict[str, Any] = {"benchmark": "overhead", "machine": machine(), "options": vars(options)}
    with tempfile.TemporaryDirectory(prefix="overhead-", ignore_cleanup_errors=True) as folder:
        lane_state = Benchmark(Path(folder), options)
        rounds = []
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            rounds.append({"bare": lane_state.bare(), "lanes": lane_state.lanes("random"), "stock": lane_state.stock()})
        gp = lane_state.lanes("gp")  # last, once: its time is mostly the sampler's
    print_result(result | summary(rounds, gp))


def parse() -> argparse.Namespace:
    command = parser("overhead", str(__doc__).partition("\n")[0], "--rounds 1")
    command.add_argument("--rounds", type=int, default=3, help="how often the sides run in turn")
    command.add_argument("--trials", type=int, default=16, help="trials of the bare and the lanes side in each round")
    command.add_argument("--stock-trials", type=int, default=1, help="trials of the stock side in each round")
    command.add_argument("--samples", type=int, default=16, help="training samples")
    command.add_argument("--threads", type=int, default=1, help="CPU threads of each side")
    return command.parse_args()


class Benchmark:
    """The three sides, each of which can be run repeatedly."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options, self.sweeps = folder, options, 0
        self.overrides = [
            f"storage_path={folder}",
            f"data.limit={options.samples}",
            "heldout.areas.tables.limit=4",
            "heldout.areas.invoices.limit=4",
            "heldout.answers_at=[]",
            "training.checkpoints_at=[1.0]",
            "wandb.mode=offline",
            f"search.trials={options.trials}",
            "search.trial_scheduler=none",  # a pruned trial would be shorter than a bare one
            "resources.lanes=1",
            f"resources.cpus_per_worker={options.threads}",
        ]
        _, settings = prepare(CONFIG, [*self.overrides, "name=prepared"], options.threads)
        self.settings = folder / "settings.json"
        self.settings.write_text(settings.model_dump_json())

    def bare(self) -> Side:
        seconds = json.loads(self._run("benchmarks.overhead.bare", str(self.settings), str(self.options.trials)))
        say(f"bare: {statistics.median(seconds):.3f} s a trial")
        return {"trials": len(seconds), "seconds_a_trial": statistics.mean(seconds)}

    def lanes(self, sampler: str) -> Side:
        """Runs a sweep by its command and reads its times from the ledger."""
        self.sweeps += 1
        name = f"lanes-{self.sweeps}"
        self._run("sweeps.run", CONFIG, *self.overrides, f"name={name}", f"search.sampler={sampler}")
        side = lanes_side(self.folder / name)
        say(f"lanes, {sampler}: {side['seconds_a_trial']:.3f} s a trial after {side['startup_seconds']:.1f} s of start")
        return side

    def stock(self) -> Side:
        count = self.options.stock_trials
        out = json.loads(self._run("benchmarks.overhead.stock", str(self.settings), str(count)).splitlines()[-1])
        seconds = out["ended"][-1] / count
        say(f"stock: {seconds:.3f} s a trial after {out['startup_seconds']:.1f} s of start")
        return {"trials": count, "seconds_a_trial": seconds, "startup_seconds": out["startup_seconds"]}

    def _run(self, module: str, *arguments: str) -> str:
        """Runs a module in a process of its own; returns its stdout.

        Raises:
            SystemExit: It failed; the message holds the ends of stdout and stderr.
        """
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT,
            env=environment(self.options.threads),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{module} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout


def lanes_side(folder: Path) -> Side:
    """Times of a sweep, from its ledger.

    Raises:
        SystemExit: A trial did not complete.
    """
    events, _ = Ledger(folder).read()
    at = {event["event"]: event["unix_seconds"] for event in events}
    ended = [event for event in events if event["event"] == "trial_ended"]
    states = {event["trial"]["state"] for event in ended}
    if states != {"complete"}:
        raise SystemExit(f"a trial on a lane ended {states}: {[event['trial']['error'] for event in ended]}")
    return {
        "trials": len(ended),
        "seconds_a_trial": (at["trial_ended"] - at["baseline"]) / len(ended),
        "on_lane_seconds": statistics.median(event["trial"]["cost"]["wall_seconds"] for event in ended),
        "first_trial_seconds": ended[0]["unix_seconds"] - at["baseline"],
        "startup_seconds": at["baseline"] - at["sweep_started"],
    }


def summary(rounds: list[dict[str, Side]], gp: Side) -> dict[str, Any]:
    """Medians over the rounds, and whether the targets are met; `gp` is one more lanes side, with the GP sampler."""

    def median(side: str, key: str) -> float:
        return round(statistics.median(one[side][key] for one in rounds), 3)

    overheads = {
        side: [one[side]["seconds_a_trial"] - one["bare"]["seconds_a_trial"] for one in rounds]
        for side in ("lanes", "stock")
    }
    lanes, stock = (statistics.median(overheads[side]) for side in ("lanes", "stock"))
    return {
        "bare_seconds_a_trial": median("bare", "seconds_a_trial"),
        "lanes": {
            "trials": sum(one["lanes"]["trials"] for one in rounds),
            "overhead_seconds_a_trial": round(lanes, 3),
            "overhead_of_each_round": rounded(overheads["lanes"]),
            "seconds_on_the_lane": median("lanes", "on_lane_seconds"),
            "seconds_to_the_first_trial": median("lanes", "first_trial_seconds"),
            "startup_seconds": median("lanes", "startup_seconds"),
            "overhead_seconds_a_trial_with_gp": round(gp["seconds_a_trial"] - median("bare", "seconds_a_trial"), 3),
        },
        "stock": {
            "trials": sum(one["stock"]["trials"] for one in rounds),
            "overhead_seconds_a_trial": round(stock, 3),
            "overhead_of_each_round": rounded(overheads["stock"]),
            "startup_seconds": median("stock", "startup_seconds"),
        },
        "ratio": round(stock / lanes, 1),
        "targets": {
            "lanes_at_most_seconds": MOST_LANES_SECONDS,
            "ratio_at_least": LEAST_RATIO,
            "met": lanes <= MOST_LANES_SECONDS and stock / lanes >= LEAST_RATIO,
        },
    }


if __name__ == "__main__":
    main()
