"""Real tokens a second of the training loop against Hugging Face's `Trainer`, and both sides' held-out loss.

Both train the same epoch from the same weights: samples, order, batch size, precision, LR schedule, AdamW and, for
LoRA, initial adapter. `Trainer` has its default settings and pads each batch to its longest sample, prompt labels at
-100. Tokens of padding don't count. The sides take turns, each round with another seed; the first steps of every epoch
are left out. Plain transformers then scores both checkpoints.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import math
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.clock import Clock
from benchmarks.common import machine, parser, prepare, print_result, rounded, say
from benchmarks.throughput.sides import heldout_nll, loop_epoch, trainer_epoch
from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.data.dataset import TokenizedSet
from trainables.data.epoch import epoch_order
from trainables.models.base_model import load_base, resolve_precision

CONFIG = "conf/demo.yaml"
SIDES = ("loop", "trainer")
PARAMS = {
    "lora": {"peak_lr": 3e-4, "warmup_fraction": 0.05, "decay_floor": 4.5e-5},
    "full": {"peak_lr": 2e-5, "warmup_fraction": 0.05, "decay_floor": 4.5e-6},
}
TARGETS = {"lora": 1.5, "full": 1.2}  # least speed-up over `Trainer`


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)  # between PEFT and transformers
    result: dict[str, Any] = {"benchmark": "throughput", "machine": machine(), "options": vars(options)}
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder, contextlib.redirect_stdout(sys.stderr):
        for method in options.methods:
            result[method] = Comparison(method, Path(folder), options).run()
    print_result(result)


def parse() -> argparse.Namespace:
    example = "--methods lora --data my/train.jsonl --heldout my/heldout.jsonl --max-tokens 512"
    command = parser("throughput", str(__doc__).partition("\n")[0], example)
    command.add_argument("--model", default=".cache/models/SmolLM2-135M-Instruct", help="id, folder or .gguf file")
    command.add_argument("--data", default="conf/data/demo/train.jsonl", help="training samples")
    command.add_argument("--heldout", default="conf/data/demo/heldout/tables.jsonl", help="held-out items")
    command.add_argument("--max-tokens", type=int, default=256, help="longer samples are left out")
    command.add_argument(
        "--methods", nargs="+", choices=["lora", "full"], default=["lora", "full"], help="what to train"
    )
    command.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of both sides")
    command.add_argument("--batch-size", type=int, default=8, help="sequences a step")
    command.add_argument("--samples", type=int, default=80, help="training samples of each epoch")
    command.add_argument("--items", type=int, default=16, help="held-out items scored; 0 for none")
    command.add_argument("--rounds", type=int, default=3, help="epochs of each side")
    command.add_argument("--warm-up-steps", type=int, default=2, help="steps of each epoch that are not timed")
    command.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of both sides")
    return command.parse_args()


class Comparison:
    """Both sides of one method, "lora" or "full"."""

    def __init__(self, method: str, folder: Path, options: argparse.Namespace) -> None:
        self.method, self.folder, self.options = method, folder, options
        overrides = [
            f"storage_path={folder}",
            f"name={method}",
            f"model.name={options.model}",
            f"model.method={method}",
            f"data.train={options.data}",
            f"data.max_tokens={options.max_tokens}",
            "data.on_defect.too_long=drop",
            f"data.limit={options.samples}",
            f"heldout.areas.tables.path={options.heldout}",
            f"heldout.areas.tables.limit={max(1, options.items)}",
            f"training.precision={options.precision}",
            f"training.batch_size={options.batch_size}",
            "training.checkpoints_at=[1.0]",
        ]
        self.settings: LaneConfig = prepare(CONFIG, overrides, options.threads)[1]
        self.data = TokenizedSet(self.settings.tokenized)
        self.items = TokenizedSet(self.settings.tokenized_areas["tables"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = resolve_precision(options.precision, self.device)

    def run(self) -> dict[str, Any]:
        self.base = load_base(self.settings.model_path, self.settings.model, self.options.precision, self.device)
        epochs: dict[str, list[Clock]] = {side: [] for side in SIDES}
        nlls: dict[str, list[float]] = {side: [] for side in SIDES}
        for seed in range(self.options.rounds):
            for side in SIDES if seed % 2 == 0 else reversed(SIDES):
                epochs[side].append(self.epoch(side, seed))
                if self.options.items:
                    nlls[side].append(heldout_nll(self.settings, self._checkpoint(side, seed), self.items))
                gc.collect()
                say(f"{self.method}, round {seed + 1}, {side}: {self.speed(epochs[side][-1], seed):.0f} tokens/s")
        return {**self.speeds(epochs), "heldout_nll": self.agreement(nlls) if self.options.items else None}

    def epoch(self, side: str, seed: int) -> Clock:
        spec = TrialSpec(trial_id=f"{side}{seed}", seed=seed, params=PARAMS[self.method])
        clock, folder = Clock(self.options.warm_up_steps), self._checkpoint(side, seed)
        if side == "loop":
            loop_epoch(self.base, self.settings, spec, clock, folder)
        else:
            trainer_epoch(self.base.tokenizer, self.settings, spec, self.precision, clock, folder)
        return clock

    def speed(self, clock: Clock, seed: int) -> float:
        """Real tokens a second of the timed steps."""
        return sum(map(sum, self.steps(seed)[self.options.warm_up_steps :])) / clock.seconds

    def speeds(self, epochs: dict[str, list[Clock]]) -> dict[str, Any]:
        """Medians over the rounds; a ratio above 1 says that the loop is faster."""
        pairs = list(zip(epochs["loop"], epochs["trainer"], strict=True))
        ratios = [theirs.seconds / ours.seconds for ours, theirs in pairs]
        tokens = {side: [self.speed(clock, seed) for seed, clock in enumerate(epochs[side])] for side in SIDES}
        return {
            "precision": self.precision,
            "padding_of_trainer": round(self.padding(), 3),
            "timed_steps_a_side": self.options.rounds * (len(self.steps(0)) - self.options.warm_up_steps),
            "tokens_a_second": {side: round(statistics.median(tokens[side])) for side in SIDES},
            "tokens_a_second_of_each_round": {side: rounded(tokens[side], 0) for side in SIDES},
            "ratio": round(statistics.median(ratios), 2),
            "ratio_of_each_round": rounded(ratios, 2),
            "ratio_of_cpu_time": round(
                statistics.median(theirs.cpu_seconds / ours.cpu_seconds for ours, theirs in pairs), 2
            ),
            "target": TARGETS[self.method],
            "met": statistics.median(ratios) >= TARGETS[self.method],
        }

    def steps(self, seed: int) -> list[list[int]]:
        """Token lengths of the samples of each step."""
        lengths = [int(self.data.lengths[index]) for index in epoch_order(len(self.data), seed)]
        size = self.settings.training.batch_size
        return [lengths[start : start + size] for start in range(0, len(lengths), size)]

    def padding(self) -> float:
        """Share of padding in `Trainer`'s tokens, over all rounds."""
        steps = [lengths for seed in range(self.options.rounds) for lengths in self.steps(seed)]
        return 1.0 - sum(map(sum, steps)) / sum(max(lengths) * len(lengths) for lengths in steps)

    def agreement(self, nlls: dict[str, list[float]]) -> dict[str, Any]:
        """Whether the sides' held-out losses differ by no more than two seeds' do."""
        differences = [ours - theirs for ours, theirs in zip(nlls["loop"], nlls["trainer"], strict=True)]
        spread = math.sqrt(statistics.mean(statistics.variance(nlls[side]) for side in SIDES)) if differences[1:] else 0
        return {
            "base_model": round(heldout_nll(self.settings, None, self.items), 4),
            **{side: rounded(nlls[side], 4) for side in SIDES},
            "differences": rounded(differences, 5),
            "sd_between_seeds": round(spread, 5),
            "within_noise": abs(statistics.mean(differences)) <= 2 * spread,
        }

    def _checkpoint(self, side: str, seed: int) -> Path:
        return self.folder / f"{self.method}-{side}-{seed}"


if __name__ == "__main__":
    main()
