"""Train trials on the fake GPU by the real loop, and print what crossed between host and device as a line of JSON.

    python -m tests.unit.trainables.fake_gpu.scenarios FOLDER

A process of its own, because torch must be imported after the library.
"""

# ruff: noqa: E402
from tests.unit.trainables.fake_gpu import library

library.load()

import contextlib
import json
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from tests.unit.trainables.fake_gpu.device import fake_gpu
from tests.unit.trainables.training.helpers import lane, tokenized, trial
from trainables.checkpoints import checkpoint
from trainables.checkpoints.host_snapshots import Snapshots
from trainables.config.sections import ModelConfig
from trainables.data import dataset
from trainables.evaluation.base_loss_scoring import compute
from trainables.evaluation.heldout import item_losses
from trainables.models import base_model, flat_attention, forward_probe, token_losses
from trainables.models.base_model import load_base, load_tokenizer, resolve_model
from trainables.models.forward_plan import ForwardPlan
from trainables.optim.workers import SOLO
from trainables.packing import eligibility
from trainables.packing.pack import Pack
from trainables.training.engine import SingleTrialEngine
from trainables.training.loop import Hooks, Loop, TrialRun

GPU = torch.device("cuda:0")
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # transformers would load weights on threads, which know of no fake GPU

# Settings, and what is spoilt on purpose to show that it would be seen.
DROPOUT, CHUNKED = {"r": 4, "alpha": 8.0, "dropout": 0.1}, {"recompute": True, "chunk_logits": 1000}
SCENARIOS = {
    "lora, dropout": {"lora": DROPOUT},
    "lora, recomputing, in chunks": CHUNKED,
    "lora, padded": {"padded": True},
    "lora, alone": {"alone": True},
    "full": {"method": "full"},
    "full, recomputing, in chunks": {"method": "full", "micro_batch_tokens": 40, **CHUNKED},
    "full without the cast of q, k, v": {
        "method": "full",
        "spoil": (flat_attention, "_in_autocast_type", lambda *qkv: qkv),
    },
    "full without pinning": {"method": "full", "spoil": (dataset, "to_device", torch.Tensor.to)},
    "full with a batch left on the host": {"method": "full", "spoil": (dataset, "to_device", lambda tensor, _: tensor)},
}


def run(folder, data, *, method="lora", lora=None, alone=False, padded=False, recompute=False, spoil=None, **more):
    """Train trials to their ends, scored and kept at half and at the end; then one resumes from its state."""
    chunk = more.pop("chunk_logits", token_losses.CHUNK_LOGITS)
    config = lane(method, lora, precision="bf16", gradient_checkpointing=recompute, **more)
    with fake_gpu() as traffic, contextlib.ExitStack() as stack:
        seen = {"varlen": 0, "one by one": 0, "pageable": {}, "steps": 0}
        _patched(stack, token_losses, "CHUNK_LOGITS", chunk)
        _patched(stack, forward_probe, "_agree", lambda *_: True)
        _patched(stack, eligibility, "drops_activations", lambda _: False)
        _count_attention(stack, seen)
        _watch_load(stack, seen)
        base = load_base(folder, config.model, "bf16", GPU, gradient_checkpointing=recompute)
        if padded:
            replace(ForwardPlan.of(base.untouched()), longest_flat=0).attach(base.untouched())
        if spoil:
            _patched(stack, *spoil)
        loop = Loop(base)
        loop.set_slots(1 if method == "full" or alone else 2)
        if alone:
            loop._pack.obstacle = lambda *_: "not wanted"
        _watch_steps(stack, traffic, seen)
        runs, states = Runs(data, config, traffic, seen), {}
        for seed in range(loop.slots):
            loop.join(runs.new(seed, states))
        _to_the_end(loop)
        step, state = states[0]
        curve, resumed = runs.curve(0, step), runs.new(0, {})
        resumed.resume_from(step, state, curve)
        loop.join(resumed)
        _to_the_end(loop)
        compute(base.untouched(), data, SOLO, 4096)
        seen["waits"], seen["layers"] = sorted(traffic.waits), base.untouched().config.num_hidden_layers
    return seen


class Runs:
    """Runs of trials whose hooks score and copy as a lane does."""

    def __init__(self, data, config, traffic, seen):
        self.data, self.config, self.seen, self.traffic = data, config, seen, traffic
        self.records, self.snapshots = {}, Snapshots()

    def new(self, seed, states):
        def on_checkpoint(_, model):
            before = dict(self.traffic.pageable)
            item_losses(model, self.data, 4096)
            self.seen["pageable"] |= _more(before, self.traffic.pageable)
            self.snapshots.release(self.snapshots.take(checkpoint.weights_of(model).tensors))

        def on_state(step, state):
            taken = self.snapshots.take(state)
            states[seed] = step, {name: tensor.clone() for name, tensor in taken.tensors.items()}
            self.snapshots.release(taken)

        curve = self.records.setdefault(seed, [])
        hooks = Hooks(curve.extend, on_checkpoint, lambda: False, on_state)
        return TrialRun(self.data, trial(seed=seed), self.config, hooks)

    def curve(self, seed, steps):
        return [vars(record) for record in self.records[seed][:steps]]


def _to_the_end(loop):
    while not loop.is_empty:
        for end in loop.step():
            if end.error:
                raise end.error


def _count_attention(stack, seen):
    def counted(name, key):
        own = getattr(flat_attention, name)

        def counting(*args):
            seen[key] += 1
            return own(*args)

        _patched(stack, flat_attention, name, counting)

    counted("_varlen", "varlen")
    counted("_one_by_one", "one by one")


def _watch_load(stack, seen):
    def watched(*args, own=base_model._load):
        loaded = own(*args)
        seen["loaded to"] = sorted({str(weight.device) for weight in loaded.parameters()})
        return loaded

    _patched(stack, base_model, "_load", watched)


def _watch_steps(stack, traffic, seen):
    for engine in (Pack, SingleTrialEngine):

        def watched(self, parts, own=engine.step):
            before, traffic.in_step = dict(traffic.pageable), True
            try:
                return own(self, parts)
            finally:
                traffic.in_step = False
                seen["pageable"] |= _more(before, traffic.pageable)
                seen["steps"] += 1

        _patched(stack, engine, "step", watched)


def _more(before, after):
    return {where: count - before.get(where, 0) for where, count in after.items() if count > before.get(where, 0)}


def _patched(stack, owner, name, value):
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def main(scratch, *names):
    path = resolve_model(ModelConfig(name="random:tiny-llama"), scratch)
    data, found = tokenized(scratch, load_tokenizer(path), 6), {}
    for name, settings in SCENARIOS.items():
        if names and name not in names:
            continue
        try:
            found[name] = run(path, data, **settings)
        except Exception as error:  # noqa: BLE001 - the test reads it
            found[name] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
            if names:
                traceback.print_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
