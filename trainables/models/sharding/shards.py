"""Share a model's weights out over the workers of a trial, by torch's FSDP2 (`torch.distributed.fsdp.fully_shard`).

Each worker keeps its part of every weight, gradient and moment. A layer's weights are gathered for its forward and its
backward pass: every pass is collective, and all workers make as many of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial, distribute_tensor
from transformers import PreTrainedModel

from trainables.models.forward_plan import ForwardPlan, hugging_face_model


def all_workers(device: torch.device) -> DeviceMesh:
    """The workers of `torch.distributed`, which must be initialized, each with a device of this kind."""
    workers = dist.group.WORLD
    assert workers is not None, "torch.distributed is initialized"
    return DeviceMesh.from_group(workers, device.type)


def shard(
    model: PreTrainedModel, workers: DeviceMesh, autocast: torch.dtype | None, *, in_float32: bool = False
) -> None:
    """Keep this worker's part of every weight, on its device.

    Args:
        model: With the same weights on every worker.
        workers: From `all_workers`.
        autocast: Type in which weights are gathered and used; None for their own. Gradients are summed in float32.
        in_float32: Keep the parts in float32, whatever type the model was loaded in.
    """
    policy = MixedPrecisionPolicy(param_dtype=autocast, reduce_dtype=torch.float32) if autocast else None
    kinds = set(model._no_split_modules or ())  # transformers' name for the class of a decoder layer
    units = [module for module in model.modules() if type(module).__name__ in kinds]
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    # Tied ones are one weight, which belongs to the whole model.
    if None not in ends and ends[0].weight is not ends[1].weight:
        units += ends
    for unit in [*units, model]:
        # One unit at a time, so that the model is never whole in float32.
        for weight in unit.parameters() if in_float32 else ():
            if weight.dtype != torch.float32:
                weight.data = weight.data.float()
        # The whole model, too: outside a pass `parameters()` then always gives the parts.
        fully_shard(unit, mesh=workers, reshard_after_forward=True, mp_policy=policy or MixedPrecisionPolicy())


def is_sharded(model: nn.Module) -> bool:
    """Whether a model, or the one that carries an adapter, is shared out."""
    return isinstance(hugging_face_model(model), FSDPModule)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This worker's part of a shared tensor, in the same memory; any other tensor as it is."""
    with torch.no_grad():
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A shared tensor from all workers' parts; any other as it is. Collective."""
    with torch.no_grad():
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class _Whole(torch.autograd.Function):
    """`whole` with a gradient: of a trained weight the workers' gradients are averaged, as those of a pass are.

    The weight stays in the type that its worker keeps, float32 where it is trained, though layers are gathered in 16
    bits: autograd adds up the gradients of several chunks in the type of the gathered weight, and in 16 bits each sum
    would be rounded. Gathering in float32 sends twice the bytes, of the model's largest matrix alone.
    """

    @staticmethod
    def forward(ctx: Any, weight: DTensor) -> torch.Tensor:
        ctx.mesh, ctx.placements = weight.device_mesh, weight.placements
        return whole(weight.detach())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        parts = DTensor.from_local(gradient, ctx.mesh, [Partial()], run_check=False)
        return parts.redistribute(placements=ctx.placements) / ctx.mesh.size()


def whole_head(model: PreTrainedModel) -> list[torch.Tensor]:
    """Weight and bias of a shared model's output head, gathered for one pass; a list of one where it has no bias.

    Collective with their backward pass, unless the model is `gathered`.
    """
    head = model.get_output_embeddings()
    weights = [weight for weight in (head.weight, getattr(head, "bias", None)) if weight is not None]
    return [_Whole.apply(weight) if isinstance(weight, DTensor) else weight for weight in weights]


def shared_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor that all workers hold whole, shared out as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def gathered_bytes(model: nn.Module) -> int:
    """Memory of all weights in the type in which they are gathered."""
    gathered_as = ForwardPlan.of(model).autocast
    return sum(weight.numel() * (gathered_as or weight.dtype).itemsize for weight in model.parameters())


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Context in which every worker holds all weights, and passes are no longer collective. Collective itself."""
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(True, recurse=False)
            unit.reshard()
