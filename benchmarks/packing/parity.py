"""Trials of the real model in a pack against the same trials one by one: curves, and final held-out loss.

Each seed's trial (order and adapter are its own) is trained by PEFT and torch's AdamW, and then in one pack with the
others. Plain transformers scores both checkpoints. The effect of packing is compared with the effect of another seed;
in fp32 the first step is compared as well, before rounding grows over an epoch.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils.logging import disable_progress_bar

from benchmarks.common import machine, parser, prepare, print_result, say
from benchmarks.throughput.sides import heldout_nll
from trainables.checkpoints import checkpoint
from trainables.config.trial_spec import TrialSpec
from trainables.data.dataset import TokenizedSet
from trainables.lane.warm_state import LaneState
from trainables.optim.workers import SOLO
from trainables.training.curve_recorder import StepRecord
from trainables.training.engine import SingleTrialEngine
from trainables.training.loop import Hooks, TrialRun

PARAMS = {"peak_lr": 3e-4, "warmup_fraction": 0.1, "decay_floor": 4.5e-5}
PART_OF_SPREAD = 0.1  # largest effect of packing, as a part of the sd between seeds
FIRST_STEP = 1e-6  # largest difference in the first step in fp32, nats a token


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    disable_progress_bar()
    result: dict[str, Any] = {"benchmark": "packing_parity", "machine": machine(), "options": vars(options)}
    with tempfile.TemporaryDirectory(prefix="parity-") as folder, contextlib.redirect_stdout(sys.stderr):
        for precision in options.precisions:
            result[precision] = Parity(precision, Path(folder) / precision, options).run()
    result["met"] = all(result[precision]["met"] for precision in options.precisions)
    print_result(result)


def parse() -> argparse.Namespace:
    command = parser("packing_parity", str(__doc__).partition("\n")[0], "--precisions fp32 --seeds 2")
    command.add_argument("--config", default="conf/demo.yaml", help="model, data and training")
    command.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"], help="of both")
    command.add_argument("--samples", type=int, default=48, help="training samples of an epoch")
    command.add_argument("--items", type=int, default=24, help="held-out items")
    command.add_argument("--batch-size", type=int, default=4, help="sequences a step")
    command.add_argument("--seeds", type=int, default=4, help="trials, one by one and packed")
    command.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    return command.parse_args()


class Parity:
    """Both sides in one precision, "fp32" or "bf16"."""

    def __init__(self, precision: str, folder: Path, options: argparse.Namespace) -> None:
        overrides = [
            f"storage_path={folder}",
            "name=parity",
            f"data.limit={options.samples}",
            f"heldout.areas.tables.limit={options.items}",
            f"training.precision={precision}",
            f"training.batch_size={options.batch_size}",
            "training.checkpoints_at=[1.0]",
        ]
        self.precision, self.folder, self.seeds = precision, folder, range(options.seeds)
        self.settings = prepare(options.config, overrides, options.threads)[1]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.lane_state = LaneState.load(self.settings, device, SOLO)
        self.items = TokenizedSet(self.settings.tokenized_areas["tables"])
        self.curves: dict[tuple[str, int], list[StepRecord]] = {}

    def run(self) -> dict[str, Any]:
        for seed in self.seeds:
            self.by_peft(self.trial_run("solo", seed))
            say(f"{self.precision}: seed {seed} solo")
        loop = self.lane_state.loop
        loop.set_slots(len(self.seeds))
        for seed in self.seeds:
            loop.join(self.trial_run("packed", seed))
        while not loop.is_empty:
            loop.step()
        say(f"{self.precision}: together")
        return self.sums()

    def by_peft(self, trial_run: TrialRun) -> None:
        """Trains a trial by PEFT's layers and torch's AdamW, without a pack."""
        engine = SingleTrialEngine(self.lane_state.base, SOLO)
        slot = engine.join(trial_run.lora, trial_run.training, trial_run.spec.seed)
        while trial_run.step < trial_run.epoch.steps:
            (stepped,) = engine.step([trial_run.next_step()])
            trial_run.record_step(stepped)
        with engine.model_of(slot) as model:
            trial_run.hooks.checkpoint(trial_run.step, model)
        engine.leave(slot)

    def trial_run(self, side: str, seed: int) -> TrialRun:
        curve = self.curves[side, seed] = []

        def save(step: int, model: nn.Module) -> None:
            checkpoint.save(model, self.folder / f"{side}-{seed}", {"step": step})

        spec = TrialSpec(trial_id=f"{side}-{seed}", seed=seed, params=PARAMS)
        hooks = Hooks(steps=curve.extend, checkpoint=save, should_stop=lambda: False)
        return TrialRun(self.lane_state.data, spec, self.settings, hooks)

    def sums(self) -> dict[str, Any]:
        """Differences and their limits."""
        nlls = {
            side: [heldout_nll(self.settings, self.folder / f"{side}-{seed}", self.items) for seed in self.seeds]
            for side in ("solo", "packed")
        }
        differences = [ours - theirs for ours, theirs in zip(nlls["packed"], nlls["solo"], strict=True)]
        spread, worst = statistics.stdev(nlls["solo"]), max(map(abs, differences))
        first = max(self.step_gap(seed, 0) for seed in self.seeds)
        single = self.precision == "fp32"
        return {
            "trials": len(self.seeds),
            "steps": len(self.curves["solo", 0]),
            "padding_of_the_pack": round(1 - self.lane_state.loop.rows[1] / self.lane_state.loop.rows[0], 3),
            "heldout_nll_base_model": heldout_nll(self.settings, None, self.items),
            "heldout_nll": nlls,
            "differences": differences,
            "sd_between_seeds": spread,
            "worst_difference_over_sd": worst / spread,
            "worst_loss_of_a_sample_first_step": first,
            "worst_loss_of_a_sample_last_step": max(self.step_gap(seed, -1) for seed in self.seeds),
            "target": {"worst_difference_over_sd": PART_OF_SPREAD} | ({"first_step": FIRST_STEP} if single else {}),
            "met": worst <= PART_OF_SPREAD * spread and (not single or first <= FIRST_STEP),
        }

    def step_gap(self, seed: int, step: int) -> float:
        """Largest difference of a sample's loss in a step, nats a token."""
        ours, theirs = (self.curves[side, seed][step].item_nll for side in ("packed", "solo"))
        return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
