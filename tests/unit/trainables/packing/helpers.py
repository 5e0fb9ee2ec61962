"""Trials for packs, a driver that gives each slot its own epoch, and a reference that knows nothing of packs."""

from dataclasses import dataclass, field

import numpy as np
import peft
import torch
from transformers import AutoModelForCausalLM

from tests.unit.trainables.training.helpers import plain_loop
from trainables.config.sections import LoraConfig, TrainingConfig
from trainables.models.base_model import Base
from trainables.models.forward_probe import choose_plan
from trainables.packing.pack import StepPart


@dataclass(eq=False)
class Trial:
    """One trial of a packed epoch.

    Attributes:
        starts: Step of the pack before which it joins.
        pruned_after: Its own steps after which it is taken out; None for the whole epoch.
    """

    seed: int = 0
    lr: float = 1e-2
    rank: int = 4
    alpha: float = 8.0
    dropout: float = 0.0
    targets: str | list[str] = "all-linear"
    starts: int = 0
    pruned_after: int | None = None
    training: dict = field(default_factory=dict)

    @property
    def lora(self):
        return LoraConfig(r=self.rank, alpha=self.alpha, dropout=self.dropout, target_modules=self.targets)

    @property
    def section(self):
        return TrainingConfig(**{"batch_size": 3, "weight_decay": 0.01, **self.training})

    def epoch(self, count):
        """Micro-batches of sample indices, step by step."""
        order = np.random.Generator(np.random.PCG64(self.seed)).permutation(count).tolist()
        size, parts = self.section.batch_size, self.section.gradient_accumulation
        steps = [order[start : start + size * parts] for start in range(0, count, size * parts)]
        micro = [[step[start : start + size] for start in range(0, len(step), size)] for step in steps]
        return micro[: self.pruned_after]

    def lr_at(self, step):
        return self.lr * (1.0 - 0.05 * step)


@dataclass
class Curve:
    """What a trial gave, step by step.

    Attributes:
        sums: Each sample's summed loss, by step.
        norms: Gradient norm before clipping, by step.
        adapter: Weights at the end, by PEFT's names.
    """

    sums: list = field(default_factory=list)
    norms: list = field(default_factory=list)
    adapter: dict = field(default_factory=dict)


def plain_base(path, dtype=torch.float32):
    """A base without a tokenizer; in double precision too, which `load_base` doesn't load."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
    choose_plan(model, None, 0)
    return Base(model, None, "lora", "fp32")


def run_packed(pack, data, trials, at_end=None):
    """Trains all trials in one pack, each from its own start to its own end.

    Args:
        at_end: Called with a trial and its slot before it leaves.
    """
    curves = {trial: Curve() for trial in trials}
    waiting, live, step = list(trials), {}, 0
    while waiting or live:
        for trial in [t for t in waiting if t.starts <= step]:
            waiting.remove(trial)
            live[pack.join(trial.lora, trial.section, trial.seed)] = trial
        for slot, stepped in zip(pack.slots, pack.step([part_of(live[s], s, data) for s in pack.slots]), strict=True):
            curve = curves[live[slot]]
            curve.sums.append(torch.cat([losses.sums for losses in stepped.losses]).tolist())
            curve.norms.append(stepped.grad_norm.item())
        for slot in list(pack.slots):
            trial = live[slot]
            if slot.steps == len(trial.epoch(len(data))):
                with pack.model_of(slot) as model:
                    curves[trial].adapter = lora_weights(model)
                if at_end:
                    at_end(trial, slot)
                pack.leave(slot)
                del live[slot]
        step += 1
    return curves


def part_of(trial, slot, data):
    micro_batches = trial.epoch(len(data))[slot.steps]
    tokens = sum(int(np.count_nonzero(data.label_mask(i))) for micro in micro_batches for i in micro)
    return StepPart([data.batch(micro) for micro in micro_batches], tokens, trial.lr_at(slot.steps))


def initial(base, trial):
    return lora_weights(base.prepare(trial.lora, trial.seed))


def join_all(pack, trials):
    return {pack.join(t.lora, t.section, t.seed): t for t in trials}


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def lora_weights(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if "lora_" in name}


def run_alone(path, prepared, data, trial, dtype=torch.float64, **loading):
    """The trial by `transformers`, `peft` and `torch.optim` alone: padding, all logits.

    Its attention is SDPA: the written-out one computes its softmax in single precision.

    Args:
        path: The base model's folder.
        prepared: Initial adapter, by PEFT's names.
        loading: Further arguments of `from_pretrained`.
    """
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="sdpa", **loading)
    config = peft.LoraConfig(
        r=trial.rank,
        lora_alpha=trial.alpha,
        lora_dropout=trial.dropout,
        target_modules=trial.targets,
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(prepared[name])
    steps = trial.epoch(len(data))
    sums, norms = plain_loop(model, data, steps, [trial.lr_at(step) for step in range(len(steps))], trial.section)
    return Curve(sums, norms, lora_weights(model))


def gaps(found, expected):
    """Largest differences between two curves: of samples' losses, of gradient norms and of final weights."""
    flat = [np.concatenate([np.array(step) for step in curve.sums]) for curve in (found, expected)]
    weights = max((found.adapter[name] - expected.adapter[name]).abs().max().item() for name in expected.adapter)
    assert found.adapter.keys() == expected.adapter.keys()
    return {
        "losses": float(np.abs(flat[0] - flat[1]).max()),
        "norms": float(np.abs(np.array(found.norms) - np.array(expected.norms)).max()),
        "weights": weights,
    }
