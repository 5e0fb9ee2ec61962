"""The two sides of `benchmarks.throughput`, this project's loop and Hugging Face's `Trainer`, and a neutral scorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

from benchmarks.clock import Clock, ClockCallback
from trainables.checkpoints import checkpoint
from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.data.dataset import TokenizedSet
from trainables.data.epoch import epoch_order, plan_epoch
from trainables.models.adapter.attach import draw_adapter
from trainables.models.base_model import Base, Precision
from trainables.optim.lr_schedule import LRSchedule, make_schedule
from trainables.training.loop import Hooks, Loop, TrialRun

IGNORED_LABEL = -100


def loop_epoch(base: Base, settings: LaneConfig, spec: TrialSpec, clock: Clock, folder: Path) -> None:
    """Trains an epoch by `trainables.training.loop`; writes the checkpoint to `folder`."""

    def on_checkpoint(step: int, model: nn.Module) -> None:
        clock.stop()
        checkpoint.save(model, folder, {"step": step})

    hooks = Hooks(steps=lambda records: None, checkpoint=on_checkpoint, should_stop=clock.step_begins)
    outcome = Loop(base).train(TrialRun(TokenizedSet(settings.tokenized), spec, settings, hooks))
    assert outcome.state == "complete", outcome
    base.restore()


def trainer_epoch(
    tokenizer: Any, settings: LaneConfig, spec: TrialSpec, precision: Precision, clock: Clock, folder: Path
) -> None:
    """Trains the same epoch by `Trainer` with its defaults; writes the checkpoint to `folder`.

    Equal are samples, order, batch size, precision, initial adapter, AdamW's numbers, clipping and LR schedule. Weights
    are float32 under bf16 autocast.
    """
    data, training = TokenizedSet(settings.tokenized), settings.training
    schedule = make_schedule(spec.params, training.schedule, plan_epoch(len(data), training).steps)
    arguments = TrainingArguments(
        output_dir=str(folder.with_name(folder.name + "-trainer")),
        num_train_epochs=1,
        per_device_train_batch_size=training.batch_size,
        learning_rate=schedule.peak_lr,
        weight_decay=training.weight_decay,
        adam_beta1=training.beta1,
        adam_beta2=training.beta2,
        adam_epsilon=training.eps,
        max_grad_norm=training.max_grad_norm,
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="sequential",  # the samples are given in the epoch's order
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=spec.seed,
    )
    trainer = ScheduledTrainer(
        schedule,
        model=_model(settings, spec.seed),
        args=arguments,
        train_dataset=[_example(data, int(index)) for index in epoch_order(len(data), spec.seed)],
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED_LABEL),
        callbacks=[ClockCallback(clock)],
    )
    trainer.train()
    trainer.save_model(str(folder))


class ScheduledTrainer(Trainer):
    """`Trainer` with this project's LR schedule."""

    def __init__(self, schedule: LRSchedule, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.schedule = schedule

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        steps, peak = self.schedule.steps, self.schedule.peak_lr
        optimizer = optimizer or self.optimizer
        assert num_training_steps == steps, (num_training_steps, steps)
        assert optimizer is not None
        self.lr_scheduler = LambdaLR(optimizer, lambda step: self.schedule.lr(min(step, steps - 1)) / peak)
        return self.lr_scheduler


def heldout_nll(settings: LaneConfig, trained: Path | None, items: TokenizedSet) -> float:
    """Mean item loss of a checkpoint by plain transformers in float32, nats a token.

    Args:
        settings: Config with the base model.
        trained: Checkpoint of either side; None for the base model.
        items: Held-out items.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    adapter = trained is not None and (trained / "adapter_config.json").exists()
    source = settings.model_path if trained is None or adapter else str(trained)
    model: nn.Module = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    nn.Module.to(model, device)
    if adapter:
        model = PeftModel.from_pretrained(model, str(trained))
    losses = []
    with torch.no_grad():
        for index in range(len(items)):
            tokens = torch.from_numpy(items.input_ids(index).astype(np.int64)).to(device)
            labels = np.flatnonzero(items.label_mask(index))
            logits = model.eval()(input_ids=tokens[None]).logits[0, labels - 1]
            losses.append(functional.cross_entropy(logits.float(), tokens[labels]).item())
    return float(np.mean(losses))


def _model(settings: LaneConfig, seed: int) -> nn.Module:
    model = AutoModelForCausalLM.from_pretrained(settings.model_path, dtype=torch.float32)
    if settings.model.method == "full":
        return model
    lora = settings.model.lora
    config = LoraConfig(
        r=lora.r,
        lora_alpha=int(lora.alpha),
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    draw_adapter(adapted, seed)
    return adapted


def _example(data: TokenizedSet, index: int) -> dict[str, list[int]]:
    tokens = data.input_ids(index)
    labels = np.where(data.label_mask(index), tokens, IGNORED_LABEL)
    return {"input_ids": tokens.tolist(), "attention_mask": [1] * len(tokens), "labels": labels.tolist()}
