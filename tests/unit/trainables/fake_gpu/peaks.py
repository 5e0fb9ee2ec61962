"""Peak memory of whole trials on the fake GPU, without any code of the forecast.

    echo REQUESTS | python -m tests.unit.trainables.fake_gpu.peaks

Reads a list of `MemoryRequest` and prints a list of bytes: of an epoch of two steps in the real loop, the held-out
losses and answers at its end, the snapshot of its weights. Of a base that workers share out they are one worker's.
"""

# ruff: noqa: E402
from tests.unit.trainables.fake_gpu import library

library.load()

import contextlib
import json
import sys
import weakref

import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, initialization

from tests.unit.trainables.fake_gpu.device import fake_gpu
from tests.unit.trainables.training.helpers import lane, trial
from trainables.checkpoints import checkpoint
from trainables.checkpoints.host_snapshots import Snapshots
from trainables.config.memory_request import MemoryRequest
from trainables.data.dataset import TokenizedSet, TokenSequence
from trainables.evaluation.heldout import item_losses
from trainables.evaluation.scoring_workers import scoring_workers
from trainables.models import base_model, forward_probe
from trainables.models.base_model import Base
from trainables.models.forward_plan import hugging_face_model
from trainables.models.forward_probe import choose_plan
from trainables.models.layers.nf4 import quantize, quantized
from trainables.models.sharding.shards import all_workers, shard
from trainables.optim.workers import SOLO, World
from trainables.packing import eligibility
from trainables.training.loop import Hooks, Loop, TrialRun


class DeviceMemory(TorchDispatchMode):
    """Bytes of all living storages of the fake GPU."""

    def __init__(self):
        super().__init__()
        self.living, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            leaf = leaf._local_tensor if isinstance(leaf, DTensor) else leaf
            if isinstance(leaf, FakeTensor) and leaf.device.type == "cuda":
                storage = leaf.untyped_storage()
                if storage._cdata not in self.living:
                    self.living[storage._cdata] = 0
                    weakref.finalize(storage, self.freed, storage._cdata)
                self.sized(storage)
        return out

    def sized(self, storage):
        """Count a storage as large as it is now; one of gathered weights grows and shrinks."""
        if (key := storage._cdata) in self.living:
            self.now += storage.nbytes() - self.living[key]
            self.living[key] = storage.nbytes()
            self.peak = max(self.peak, self.now)

    def freed(self, key):
        self.now -= self.living.pop(key)

    def resizing(self, own):
        def resized(storage, size):
            done = own(storage, size)
            self.sized(storage)
            return done

        return resized


class Alike(World):
    """One of several workers, of which the others hold what it holds."""

    def __post_init__(self):
        pass

    def _highest(self, vote, group):
        return vote

    def _gather(self, value, group):
        return [value] * self.size


@contextlib.contextmanager
def workers_of(asked):
    """The trial's workers; collectives between them do nothing."""
    if asked.workers == 1:
        yield SOLO
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=asked.workers)
    try:
        yield Alike(0, asked.workers)
    finally:
        dist.destroy_process_group()


class Equal(TokenizedSet):
    """Samples of one length, without a file."""

    def __init__(self, count, tokens, label_share):
        self.count, self.tokens = count, tokens
        self.mask = np.arange(tokens) >= round(tokens * (1 - label_share))
        self.lengths = np.full(count, tokens)

    def __len__(self):
        return self.count

    def label_mask(self, i):
        return self.mask

    def sequence(self, i):
        return TokenSequence(f"s{i}", np.zeros(self.tokens, np.int32), self.mask)


def built(asked, bf16, memory):
    """The model on the fake GPU, in 4 bits or shared out where that is asked."""
    with torch.device("cuda:0"), initialization.no_init_weights():
        dtype = bf16 if bf16 and asked.model.method == "lora" else torch.float32
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(asked.model_path), dtype=dtype).eval()
    model.tie_weights()
    if asked.model.quantize:
        quantize(model, torch.device("cuda:0"))
    if asked.workers > 1:
        shard(model, all_workers(torch.device("cuda")), bf16 if asked.model.method == "full" else None)
    # In 4 bits or shared out, weights come from the host one by one: a device has never had all of them whole.
    memory.peak = memory.now
    return model


def peak(asked):
    """Bytes on the device at most, over a trial."""
    data = Equal(2 * asked.samples * asked.workers, asked.sample_tokens, asked.label_share)
    heldout = Equal(max(1, asked.scored_tokens // asked.sample_tokens), asked.sample_tokens, asked.label_share)
    lora = asked.model.lora.model_dump()
    training = {"batch_size": asked.samples, "gradient_checkpointing": asked.training.gradient_checkpointing}
    config = lane(asked.model.method, lora, **{**training, "precision": asked.precision})
    bf16 = torch.bfloat16 if asked.precision == "bf16" else None
    if asked.model.quantize:
        quantized(torch.ones(64))  # bitsandbytes makes a table of numbers once, which fake tensors have not
    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            (forward_probe, "_agree", lambda *_: True),
            (base_model, "_compact", lambda weight: weight.detach().bfloat16()),
            (base_model, "draw_adapter", lambda *_: None),
            (eligibility, "drops_activations", lambda _: False),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        world = stack.enter_context(workers_of(asked))
        stack.enter_context(fake_gpu())
        memory = stack.enter_context(DeviceMemory())
        stack.callback(setattr, torch.UntypedStorage, "resize_", torch.UntypedStorage.resize_)
        torch.UntypedStorage.resize_ = memory.resizing(torch.UntypedStorage.resize_)
        model = built(asked, bf16, memory)
        choose_plan(model, bf16, 0)
        recomputes = asked.training.gradient_checkpointing
        base = Base(model, None, asked.model.method, asked.precision, gradient_checkpointing=recomputes)

        def on_checkpoint(_, trained):
            with scoring_workers(trained, world):
                item_losses(trained, heldout, asked.scored_tokens)
                answer(trained)
            Snapshots().take(checkpoint.weights_of(trained).tensors)

        def answer(trained):
            with torch.no_grad(), torch.autocast("cuda", dtype=bf16, enabled=bf16 is not None):
                tokens = torch.zeros(asked.prompts, asked.prompt_tokens, dtype=torch.int64, device="cuda:0")
                inner = hugging_face_model(trained)
                cache = inner(tokens, attention_mask=torch.ones_like(tokens), logits_to_keep=1).past_key_values
                for _ in range(asked.answer_tokens):  # as `generate` does, a token at a time
                    inner(tokens[:, :1], past_key_values=cache)

        loop = Loop(base, world)
        loop.set_slots(asked.slots)
        hooks = Hooks(lambda _: None, on_checkpoint, lambda: False)
        for seed in range(asked.slots):
            loop.join(TrialRun(data, trial(seed=seed), config, hooks, world))
        while not loop.is_empty:
            for end in loop.step():
                if end.error:
                    raise end.error
    return memory.peak


if __name__ == "__main__":
    print(json.dumps([peak(MemoryRequest.model_validate(asked)) for asked in json.load(sys.stdin)]))
