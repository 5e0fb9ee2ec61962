"""The bare side of `benchmarks.overhead`: trials in one process, without Ray, W&B, ledger or curve files.

Usage: python -m benchmarks.overhead.bare SETTINGS TRIALS; prints a JSON list of each trial's seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

from trainables.checkpoints import checkpoint
from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.lane.warm_state import LaneState
from trainables.optim.workers import SOLO
from trainables.training.loop import Hooks, TrialRun

WARM_UP_TRIALS = 2  # not timed
PARAMS = {"peak_lr": 3e-3, "warmup_fraction": 0.05, "decay_floor": 7e-4}


def main(settings_path: str, trials: str) -> None:
    settings = LaneConfig.model_validate_json(Path(settings_path).read_text())
    torch.set_num_threads(settings.threads)
    lane_state = LaneState.load(settings, torch.device("cuda" if torch.cuda.is_available() else "cpu"), SOLO)
    seconds = [trial_seconds(lane_state, f"bare{number}") for number in range(WARM_UP_TRIALS + int(trials))]
    print(json.dumps(seconds[WARM_UP_TRIALS:]))


def trial_seconds(lane_state: LaneState, trial_id: str) -> float:
    """Seconds of a trial: epoch, held-out scores and checkpoint."""
    folder = Path(lane_state.settings.output_dir) / "trials" / trial_id

    def on_checkpoint(step: int, model: nn.Module) -> None:
        for area in lane_state.areas:
            lane_state.score(model, area, with_answers=False)
        checkpoint.save(model, folder / f"step-{step}", {"trial_id": trial_id})

    hooks = Hooks(steps=lambda records: None, checkpoint=on_checkpoint, should_stop=lambda: False)
    spec = TrialSpec(trial_id=trial_id, seed=0, params=PARAMS)
    started = time.perf_counter()
    outcome = lane_state.loop.train(TrialRun(lane_state.data, spec, lane_state.settings, hooks))
    seconds = time.perf_counter() - started
    assert outcome.state == "complete", outcome
    return seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
