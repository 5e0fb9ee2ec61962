"""Sides of the packing benchmarks: trials in one pack, one trial by the loop, one by Hugging Face's `Trainer`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Trainer, TrainingArguments

from benchmarks.clock import Clock, ClockCallback
from trainables.config.sections import LoraConfig, ModelConfig, TrainingConfig
from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.data.dataset import Batch, TokenSequence, collate
from trainables.data.epoch import epoch_order, step_indices
from trainables.models.base_model import Base, resolve_precision
from trainables.models.forward_probe import choose_plan
from trainables.optim.workers import SOLO, World
from trainables.packing.pack import Pack, StepPart
from trainables.training.loop import Hooks, Loop, TrialRun

SHAPES: dict[str, dict[str, Any]] = {  # of Qwen2.5; heads of 64 and 128
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}
VOCABULARY = {"0.5B": 151_936, "1.5B": 151_936, "7B": 152_064, "tiny": 300}
LORA = LoraConfig(r=16, alpha=32.0)
LR = {"lora": 1e-3, "full": 1e-5}


class Samples:
    """A training set for the loop: random tokens, with labels in the second half of each sample.

    Lengths are uniform between half and one and a half times `mean`, or all `mean`.
    """

    def __init__(self, count: int, mean: int, vocabulary: int, *, equal: bool = False) -> None:
        random = np.random.Generator(np.random.PCG64(0))
        low, high = (mean, mean) if equal else (mean // 2, mean + mean // 2)
        self.lengths = random.integers(low, high, count, endpoint=True)
        self.sequences = [
            TokenSequence(f"s{i}", random.integers(2, vocabulary, n).astype(np.int32), np.arange(n) >= n // 2)
            for i, n in enumerate(self.lengths)
        ]

    def __len__(self) -> int:
        return len(self.sequences)

    def label_mask(self, i: int) -> np.ndarray:
        return self.sequences[i].label_mask

    def batch(self, indices: Sequence[int]) -> Batch:
        return collate([self.sequences[i] for i in indices])


@dataclass(frozen=True)
class Pace:
    """Steps and batch size of a side."""

    warm_up_steps: int
    steps: int
    batch_size: int


class Setting:
    """One model and one number of tokens a step and trial: the samples and the sides.

    Args:
        base: The base model.
        tokens: Mean tokens of a step and trial.
        vocabulary: Tokens that occur in the samples.
        pace: Steps and batch size.
        equal: Give all samples the same length.
        checkpoints_at: Fractions of the epoch.
    """

    def __init__(
        self,
        base: Base,
        tokens: int,
        vocabulary: int,
        pace: Pace,
        *,
        equal: bool = False,
        checkpoints_at: Sequence[float] = (1.0,),
    ) -> None:
        self.base, self.pace, self.lr = base, pace, LR[base.method]
        count = (pace.warm_up_steps + pace.steps) * pace.batch_size
        self.samples = Samples(count, tokens // pace.batch_size, vocabulary, equal=equal)
        self.training = TrainingConfig(batch_size=pace.batch_size, checkpoints_at=list(checkpoints_at))
        model = ModelConfig(name="random", method=base.method, lora=LORA)
        self.config = LaneConfig.model_construct(training=self.training, model=model)
        self.loop = Loop(base)

    def timed_tokens(self, seed: int) -> int:
        """Real tokens of one trial's timed steps."""
        first = self.pace.warm_up_steps * self.pace.batch_size
        return int(self.samples.lengths[epoch_order(len(self.samples), seed)[first:]].sum())

    def solo(self, clock: Clock) -> int:
        """Trains one trial by `trainables.training.loop`; returns the tokens of its timed steps."""
        hooks = Hooks(
            steps=lambda steps: None,
            checkpoint=lambda step, model: clock.stop(),
            should_stop=clock.step_begins,
        )
        self.loop.train(self.trial_run(0, self.lr, hooks))
        return self.timed_tokens(0)

    def side_by_side(self, trials: int, slots: int) -> None:
        """Trains trials of different LRs through the loop, `slots` at a time."""
        hooks = Hooks(steps=lambda steps: None, checkpoint=lambda step, model: None, should_stop=lambda: False)
        waiting = [self.trial_run(0, self.lr / (number + 1), hooks) for number in range(trials)]
        self.loop.set_slots(slots)
        while waiting or not self.loop.is_empty:
            while waiting and self.loop.free:
                self.loop.join(waiting.pop(0))
            self.loop.step()

    def trial_run(self, seed: int, lr: float, hooks: Hooks, world: World = SOLO) -> TrialRun:
        params = {"peak_lr": lr, "warmup_fraction": 0.0, "decay_floor": lr}
        spec = TrialSpec(trial_id="trial", seed=seed, params=params)
        return TrialRun(self.samples, spec, self.config, hooks, world)  # type: ignore[arg-type]

    def packed(self, slots: int) -> Callable[[Clock], int]:
        """A side with `slots` trials in one pack, of different LRs and one order."""

        def run(clock: Clock) -> int:
            pack = Pack(self.base)
            try:
                for _ in range(slots):
                    pack.join(LORA, self.training, 0)
                for step in range(self.pace.warm_up_steps + self.pace.steps):
                    clock.step_begins()
                    pack.step([self.part(0, step, self.lr / (slot + 1)) for slot in range(slots)])
                clock.stop()
            finally:
                pack.close()
            clock.waste = 1 - pack.tokens / pack.rows  # rows without a token of a sample are padding
            return slots * self.timed_tokens(0)

        return run

    def part(self, seed: int, step: int, lr: float) -> StepPart:
        """A slot's step of the epoch in the seed's order."""
        order = epoch_order(len(self.samples), seed)
        batch = self.samples.batch(step_indices(order, step, self.pace.batch_size))
        return StepPart([batch], batch.label_tokens, lr)

    def trainer(self, clock: Clock) -> int:
        """Trains one trial by `Trainer` with its defaults, on batches padded to their longest sample."""
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=self.pace.batch_size,
                num_train_epochs=1,
                learning_rate=self.lr,
                bf16=self.base.precision == "bf16",
                use_cpu=self.base.device.type == "cpu",
                train_sampling_strategy="sequential",  # the samples are given in the epoch's order
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            # Of several GPUs it would take all, in threads.
            arguments._n_gpu = min(1, arguments.n_gpu)
            examples = [self.samples.sequences[i] for i in epoch_order(len(self.samples), 0)]
            model = self.base.prepare(LORA, 0)
            Trainer(
                model, arguments, train_dataset=examples, data_collator=padded, callbacks=[ClockCallback(clock)]
            ).train()
        return self.timed_tokens(0)


def padded(examples: list[TokenSequence]) -> dict[str, torch.Tensor]:
    longest = max(len(example.input_ids) for example in examples)
    rows: dict[str, list[np.ndarray]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for _, ids, mask in examples:
        room = (0, longest - len(ids))
        rows["input_ids"].append(np.pad(ids, room))
        rows["attention_mask"].append(np.pad(np.ones_like(ids), room))
        rows["labels"].append(np.pad(np.where(mask, ids, -100), room, constant_values=-100))
    return {name: torch.from_numpy(np.stack(values).astype(np.int64)) for name, values in rows.items()}


def model_config(shape: str) -> Qwen2Config:
    """The configuration of a shape."""
    shared = {"num_key_value_heads": 2, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 1}
    return Qwen2Config(**{"vocab_size": VOCABULARY[shape], "pad_token_id": 0, **shared, **SHAPES[shape]})


def random_base(shape: str, device: torch.device, method: Literal["lora", "full"] = "lora") -> Base:
    """A base with random weights, prepared as `load_base` does."""
    precision = resolve_precision("auto", device)
    frozen_type = torch.bfloat16 if precision == "bf16" and method == "lora" else torch.float32
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(model_config(shape), dtype=frozen_type).eval()
    choose_plan(model, torch.bfloat16 if precision == "bf16" else None, 0)
    return Base(model, None, method, precision)
