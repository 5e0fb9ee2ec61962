"""Peak memory of a trial on a GPU, from the trial's own code on tensors without data. Needs no GPU and no weights.

    echo REQUEST | python -m trainables.training.memory_run

Reads a `MemoryRequest` as JSON and prints `{"parameters": N, "peak_bytes": {PHASE: N, …}}`. A process of its own,
because it replaces parts of the project that look at numbers. What no such run sees: the CUDA context, the workspaces
of kernels, and what the allocator rounds up and fragments.
"""

from __future__ import annotations

import json
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, initialization

from trainables.config.memory_request import MemoryRequest
from trainables.data.dataset import Batch, TokenSequence, collate
from trainables.evaluation.answer_batches import cache_bytes_per_token, prompt_batches
from trainables.models import base_model, flat_attention
from trainables.models.base_model import Base
from trainables.models.flat_attention import PADDING_FREE, longest_flat
from trainables.models.forward_plan import ForwardPlan, hugging_face_model
from trainables.models.layers import nf4
from trainables.models.sharding.shards import all_workers, local, shard
from trainables.models.token_losses import token_losses_and_hits
from trainables.optim.step import BatchLosses, StepPart
from trainables.optim.workers import SOLO, World
from trainables.packing import eligibility
from trainables.packing.pack import Pack
from trainables.training.sharded_engine import engine_of_one


class LiveMemory(TorchDispatchMode):
    """Adds up the storages of all tensors that live.

    Attributes:
        now: Bytes.
        peak: Most bytes since it was last set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._live: dict[int, tuple[Any, int]] = {}  # reference to each storage, and its bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in map(local, tree_leaves(result)):
            if isinstance(leaf, FakeTensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._live:
            return

        def freed(_: Any) -> None:
            self.now -= self._live.pop(key)[1]

        self._live[key] = (weakref.ref(storage, freed), 0)
        self.resized(storage)

    def resized(self, storage: torch.UntypedStorage) -> None:
        """Count a storage that has changed its size: FSDP frees gathered weights so."""
        key, size = storage._cdata, storage.nbytes()
        if key in self._live:
            reference, before = self._live[key]
            self._live[key] = (reference, size)
            self.now += size - before
            self.peak = max(self.peak, self.now)


def peak_bytes(request: MemoryRequest) -> dict[str, Any]:
    """Run a trial's phases on tensors without data and measure each.

    Returns:
        `parameters`, and in `peak_bytes` the peak of the phases "step", "scoring" and "answers".
    """
    batch = _batch(request.samples, request.sample_tokens, request.label_share)
    scored_items = max(1, request.scored_tokens // request.sample_tokens)
    scored = _batch(scored_items, request.sample_tokens, request.label_share)
    memory = LiveMemory()
    with _no_numbers(memory), _workers(request) as (world, mesh), FakeTensorMode(allow_non_fake_inputs=True), memory:
        base = _base(request, mesh)
        pack = Pack(base, world)
        packs = pack.obstacle(request.model.lora, request.training) is None
        engine: Any = pack if packs else engine_of_one(base, world)
        slots = [engine.join(request.model.lora, request.training, seed) for seed in range(request.slots)]
        parts = [StepPart([batch], batch.label_tokens, 1e-4) for _ in slots]
        peaks = {}
        if engine is not pack:
            engine.step(parts)  # the first step makes AdamW's moments, which a pack has from the start
        memory.peak = memory.now
        engine.step(parts)
        peaks["step"] = memory.peak
        with engine.model_of(slots[0]) as model, torch.no_grad():
            memory.peak = memory.now
            token_losses_and_hits(model, scored)
            peaks["scoring"] = memory.peak
            if request.prompts:
                memory.peak = memory.now
                _answer(model, request)
                peaks["answers"] = memory.peak
        parameters = sum(weight.numel() for weight in base.untouched().parameters())
    return {"parameters": parameters, "peak_bytes": peaks}


class _OneOfMany(World):
    """A worker whose fellows are not there."""

    def __post_init__(self) -> None:
        pass  # no groups to talk in


@contextmanager
def _workers(request: MemoryRequest) -> Iterator[tuple[World, DeviceMesh | None]]:
    """The workers over which weights are shared out; collectives between them do nothing."""
    if request.workers == 1:
        yield SOLO, None
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=request.workers)
    try:
        yield _OneOfMany(0, request.workers), all_workers(torch.device("cpu"))
    finally:
        dist.destroy_process_group()


def _base(request: MemoryRequest, mesh: DeviceMesh | None) -> Base:
    remote = request.model.trust_remote_code
    config = AutoConfig.from_pretrained(request.model_path, trust_remote_code=remote)
    bf16 = request.precision == "bf16"
    dtype = torch.bfloat16 if bf16 and request.model.method == "lora" else torch.float32
    with initialization.no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=remote).eval()
    model.tie_weights()
    if request.model.quantize:
        nf4.quantize(model, model.device)
    flat = longest_flat(model)
    if flat:
        model.set_attn_implementation(PADDING_FREE)
    ForwardPlan(flat, True, torch.bfloat16 if bf16 else None, head_in_chunks=True).attach(model)
    if mesh is not None:
        shard(model, mesh, torch.bfloat16 if bf16 and request.model.method == "full" else None)
    recomputes = request.training.gradient_checkpointing
    return Base(model, None, request.model.method, request.precision, gradient_checkpointing=recomputes)


def _batch(samples: int, tokens: int, label_share: float) -> Batch:
    mask = np.arange(tokens) >= min(tokens - 1, max(1, round(tokens * (1.0 - label_share))))
    return collate([TokenSequence(str(number), np.zeros(tokens, np.int32), mask) for number in range(samples)])


def _answer(model: torch.nn.Module, request: MemoryRequest) -> None:
    """Prompts go through the model and leave keys and values, as for the last token of their answers."""
    inner = hugging_face_model(model)
    each = cache_bytes_per_token(inner.config.get_text_config(), inner.dtype.itemsize)
    lengths = [request.prompt_tokens] * request.prompts
    count = len(prompt_batches(lengths, request.answer_tokens, request.prompts, each)[0])
    tokens = torch.zeros(count, request.prompt_tokens + request.answer_tokens, dtype=torch.int64)
    with ForwardPlan.of(inner).autocasting(tokens.device):
        inner(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=True, logits_to_keep=1)


def _in_4_bits(weight: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """As bitsandbytes keeps a weight: half a byte each, 64 of them with a scale in 8 bits, 256 scales with another."""
    blocks = -(-weight.numel() // 64)
    scales = weight.new_empty(blocks, dtype=torch.uint8), weight.new_empty(-(-blocks // 256), dtype=torch.float32)
    return weight.new_empty(-(-weight.numel() // 2), 1, dtype=torch.uint8), (scales, weight.shape, weight.dtype)


def _written_out(packed: torch.Tensor, state: Any) -> torch.Tensor:
    (scales, _), shape, dtype = state
    scales_written_out = packed.new_empty(scales.shape, dtype=torch.float32)  # noqa: F841  (they live beside it)
    return packed.new_empty(shape, dtype=dtype)


@contextmanager
def _no_numbers(memory: LiveMemory) -> Iterator[None]:
    """Context in which nothing asks for a tensor's numbers, and attention is the kernel of GPUs."""
    own_resize = torch.UntypedStorage.resize_

    def counted_resize(storage: torch.UntypedStorage, size: int) -> Any:
        result = own_resize(storage, size)
        memory.resized(storage)
        return result

    replaced: list[tuple[Any, str, Any]] = [
        (flat_attention, "_has_varlen_kernel", lambda _: True),
        (base_model, "_compact", lambda weight: weight.detach().bfloat16()),
        (base_model, "draw_adapter", lambda *_: None),
        (eligibility, "drops_activations", lambda _: False),
        (nf4, "bitsandbytes_is_missing", lambda _: None),
        (nf4, "quantized", _in_4_bits),
        (nf4, "dequantized", _written_out),
        (BatchLosses, "of", lambda batch, sums: BatchLosses(batch.ids, [], sums)),
        (torch.UntypedStorage, "resize_", counted_resize),
        # All is on one device; PEFT's moves to it would swap parameters, which fake ones refuse.
        (torch.nn.Module, "_apply", lambda module, *_, **__: module),
    ]
    own = [getattr(owner, name) for owner, name, _ in replaced]
    for owner, name, stand_in in replaced:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for (owner, name, _), before in zip(replaced, own, strict=True):
            setattr(owner, name, before)


if __name__ == "__main__":
    print(json.dumps(peak_bytes(MemoryRequest.model_validate_json(sys.stdin.read()))))
