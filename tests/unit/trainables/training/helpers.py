"""A tiny trial for tests: synthetic sums as data, a lane's config, hooks that remember, and a plain reference loop."""

import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import peft
import torch
from transformers import AutoModelForCausalLM

from trainables.config.data_sections import AreaConfig, DataConfig, HeldoutConfig
from trainables.config.sections import LoraConfig, ModelConfig, TrainingConfig, WandbConfig
from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.data.dataset import TokenizedSet
from trainables.data.samples import Sample
from trainables.data.tokenization import tokenize
from trainables.models.base_model import load_base
from trainables.packing.pack import Pack
from trainables.training.loop import Hooks, Loop, TrialRun

TEMPLATE = "Q: {prompt}\nA: {response}"


def sums(count, seed=0):
    """Samples of unequal lengths, such as "3 + 14 + 5" with the answer "22"."""
    numbers = random.Random(seed)
    samples = []
    for index in range(count):
        terms = [numbers.randint(1, 40) for _ in range(numbers.randint(2, 5))]
        messages = [
            {"role": "user", "content": " + ".join(map(str, terms))},
            {"role": "assistant", "content": f"{'it is ' * numbers.randint(0, 2)}{sum(terms)}"},
        ]
        samples.append(Sample(id=f"s{index}", messages=messages, meta={}, line=index + 1))
    return samples


def tokenized(folder, tokenizer, count, seed=0):
    path = Path(folder) / f"sums-{count}-{seed}.arrow"
    tokenize(sums(count, seed), tokenizer, TEMPLATE, 256, path)
    return TokenizedSet(path)


def load_tiny(path, method="lora", precision="fp32", quantize=None, **settings):
    model = ModelConfig(name="random:tiny-llama", method=method, quantize=quantize)
    return load_base(path, model, precision, torch.device("cpu"), **settings)


def lane(method="lora", lora=None, **training):
    training = {"batch_size": 4, "precision": "fp32", "checkpoints_at": [0.5, 1.0], **training}
    return LaneConfig(
        sweep="test",
        model=ModelConfig(name="random:tiny-llama", method=method, lora=LoraConfig(**(lora or {"r": 4, "alpha": 8.0}))),
        data=DataConfig(train="sums.jsonl"),
        heldout=HeldoutConfig(areas={"sums": AreaConfig(path="sums.jsonl")}),
        training=TrainingConfig(**training),
        wandb=WandbConfig(mode="disabled"),
        output_dir="/nowhere",
        model_path="/nowhere",
        tokenized="/nowhere",
        tokenized_areas={},
        threads=1,
    )


def trial(seed=7, **params):
    params = {"peak_lr": 2e-2, "warmup_fraction": 0.2, "decay_floor": 4e-3, **params}
    return TrialSpec(trial_id="t", seed=seed, params=params)


@dataclass
class Memory:
    """Hooks that remember; `stop_at` steps done is when they ask to stop."""

    stop_at: float = math.inf
    records: list = field(default_factory=list)
    asked: int = 0
    checkpoints: list = field(default_factory=list)
    speeds: list = field(default_factory=list)
    on_checkpoint: object = None

    def hooks(self, **more):
        return Hooks(self.records.extend, self._checkpoint, self._should_stop, speed=self.speeds.append, **more)

    def _checkpoint(self, step, model):
        self.checkpoints.append(step)
        if self.on_checkpoint:
            self.on_checkpoint(step, model)

    def _should_stop(self):
        self.asked += 1
        return self.asked > self.stop_at

    @property
    def losses(self):
        return [record.loss for record in self.records]


def count_reads(monkeypatch):
    """The names of the calls, from now on, that read a number of a tensor of floats and so wait for the device."""
    reads = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)

        def counted(self, *args, original=original, name=name, **kwargs):
            if self.requires_grad or self.is_floating_point():
                reads.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)
    return reads


def memory_for(slots, monkeypatch):
    """Makes a pack of more slots than that run out of memory."""
    step = Pack.step

    def limited(self, parts):
        if len(parts) > slots:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, parts)

    monkeypatch.setattr(Pack, "step", limited)


def exact_part(record):
    """What is the same however a trial is trained: no rounding enters."""
    return record.step, record.ids, record.lr, record.tokens, record.item_tokens


def train_by_peft(base, data, spec, config, hooks):
    """`train` with PEFT's own layers and torch's AdamW: by the engine of trials that can't be packed."""
    loop = Loop(base)
    loop._pack.obstacle = lambda *_: "not wanted"
    outcome = loop.train(TrialRun(data, spec, config, hooks))
    assert not loop._pack.tokens
    return outcome


@dataclass
class Reference:
    """A plain loop's curve."""

    losses: list
    lrs: list
    grad_norms: list
    item_nll: dict


def reference(path, prepared, data, spec, config):
    """Trains with nothing of the project: `transformers`, `peft`, padding, all logits, `torch.optim.AdamW`.

    Args:
        path: The base model's folder.
        prepared: State dict of what `Base.prepare` gave: a fresh adapter's random weights are taken from it.
    """
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    training, lora = config.training, config.model.lora
    if config.model.method == "lora":
        plain = peft.LoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, plain)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    weight.copy_(prepared[name])
    order = np.random.Generator(np.random.PCG64(spec.seed)).permutation(len(data)).tolist()
    size, parts = training.batch_size, training.gradient_accumulation
    steps = math.ceil(len(order) / (size * parts))
    peak, floor = spec.params["peak_lr"], spec.params["decay_floor"]
    warmup = round(spec.params["warmup_fraction"] * steps)
    rising = [peak * (step + 1) / warmup for step in range(warmup)]
    start = max(warmup, 1)
    lrs = rising + [peak + (floor - peak) * (step + 1 - start) / (steps - start) for step in range(warmup, steps)]
    micro_batches = [
        [order[start : start + size] for start in range(first, min(first + size * parts, len(order)), size)]
        for first in range(0, len(order), size * parts)
    ]
    sums, grad_norms = plain_loop(model, data, micro_batches, lrs, training)
    counts = [int(data.label_mask(i).sum()) for i in range(len(data))]
    losses = [
        sum(step) / sum(counts[i] for micro in chosen for i in micro)
        for step, chosen in zip(sums, micro_batches, strict=True)
    ]
    flat = zip(order, (value for step in sums for value in step), strict=True)
    return Reference(losses, lrs, grad_norms, {data.ids[i]: value / counts[i] for i, value in flat})


def plain_loop(model, data, micro_batches, lrs, training):
    """Trains by the book; returns each sample's summed loss, step by step, and the gradient norms before clipping.

    Args:
        micro_batches: Sample indices of each step's micro-batches.
        lrs: LR of each step.
        training: AdamW's numbers and the clipping threshold.
    """
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    betas = (training.beta1, training.beta2)
    adamw = torch.optim.AdamW(weights, lr=1.0, betas=betas, eps=training.eps, weight_decay=training.weight_decay)
    all_sums, norms = [], []
    for step, lr in zip(micro_batches, lrs, strict=True):
        tokens = sum(int(data.label_mask(i).sum()) for micro in step for i in micro)
        sums = []
        for micro in step:
            nll, _ = padded_nll(model, data, micro)
            (nll.sum() / tokens).backward()
            sums += nll.tolist()
        all_sums.append(sums)
        norms.append(torch.nn.utils.clip_grad_norm_(weights, training.max_grad_norm or math.inf).item())
        adamw.param_groups[0]["lr"] = lr
        adamw.step()
        adamw.zero_grad()
    return all_sums, norms


def padded_nll(model, data, indices):
    """Summed loss of each sample, (samples,), and its label tokens, from a padded batch and all logits."""
    longest = max(int(data.lengths[i]) for i in indices)
    input_ids = torch.zeros(len(indices), longest, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, -100)
    for row, i in enumerate(indices):
        tokens = torch.from_numpy(np.array(data.input_ids(i), dtype=np.int64))
        input_ids[row, : len(tokens)], attention_mask[row, : len(tokens)] = tokens, 1
        mask = torch.from_numpy(np.array(data.label_mask(i)))
        labels[row, : len(tokens)][mask] = tokens[mask]
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # a reference in double stays in double
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none"
    ).view(len(indices), -1)
    return losses.sum(1), (labels != -100).sum(1).tolist()
