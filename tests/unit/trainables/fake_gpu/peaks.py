"""Peak memory of whole trials on the fake GPU, without any code of the forecast.

    echo REQUESTS | python -m tests.unit.trainables.fake_gpu.peaks

Reads a list of `MemoryRequest` and prints a list of bytes: of an epoch of two steps in the real loop, the held-out
losses and answers at its end, the snapshot of its weights.
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
from torch._subclasses.fake_tensor import FakeTensor
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
from trainables.models import base_model, forward_probe
from trainables.models.base_model import Base
from trainables.models.forward_plan import hugging_face_model
from trainables.models.forward_probe import choose_plan
from trainables.models.layers.nf4 import quantize, quantized
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
            if isinstance(leaf, FakeTensor) and leaf.device.type == "cuda":
                storage = leaf.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.living:
                    self.living[key] = weakref.finalize(storage, self._freed, key, size)
                    self.now += size
                    self.peak = max(self.peak, self.now)
        return out

    def _freed(self, key, size):
        del self.living[key]
        self.now -= size


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


def peak(asked):
    """Bytes on the device at most, over a trial."""
    data = Equal(2 * asked.samples, asked.sample_tokens, asked.label_share)
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
        stack.enter_context(fake_gpu())
        memory = stack.enter_context(DeviceMemory())
        with torch.device("cuda:0"), initialization.no_init_weights():
            dtype = bf16 if bf16 and asked.model.method == "lora" else torch.float32
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(asked.model_path), dtype=dtype).eval()
        model.tie_weights()
        if asked.model.quantize:
            quantize(model, torch.device("cuda:0"))
        choose_plan(model, bf16, 0)
        recomputes = asked.training.gradient_checkpointing
        base = Base(model, None, asked.model.method, asked.precision, gradient_checkpointing=recomputes)

        def on_checkpoint(_, trained):
            item_losses(trained, heldout, asked.scored_tokens)
            with torch.no_grad(), torch.autocast("cuda", dtype=bf16, enabled=bf16 is not None):
                tokens = torch.zeros(asked.prompts, asked.prompt_tokens, dtype=torch.int64, device="cuda:0")
                inner = hugging_face_model(trained)
                cache = inner(tokens, attention_mask=torch.ones_like(tokens), logits_to_keep=1).past_key_values
                for _ in range(asked.answer_tokens):  # as `generate` does, a token at a time
                    inner(tokens[:, :1], past_key_values=cache)
            Snapshots().take(checkpoint.weights_of(trained).tensors)

        loop = Loop(base)
        loop.set_slots(asked.slots)
        hooks = Hooks(lambda _: None, on_checkpoint, lambda: False)
        for seed in range(asked.slots):
            loop.join(TrialRun(data, trial(seed=seed), config, hooks))
        while not loop.is_empty:
            for end in loop.step():
                if end.error:
                    raise end.error
    return memory.peak


if __name__ == "__main__":
    print(json.dumps([peak(MemoryRequest.model_validate(asked)) for asked in json.load(sys.stdin)]))
