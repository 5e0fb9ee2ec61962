"""The base model while trials are packed on it: its adapted layers replaced, and put back when it is needed whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn import functional

from trainables.config import LoraConfig
from trainables.errors import UserError
from trainables.forward import ForwardPlan, hugging_face_model
from trainables.model import Base
from trainables.packed_layers import Dropout, PackedLinear, Routing
from trainables.packed_rows import PackedBatch
from trainables.packed_weights import Adapter, Layout
from trainables.probe import probe_batch
from trainables.token_losses import label_logits


def obstacle(base: Base, lora: LoraConfig, *, gradient_checkpointing: bool = False) -> str | None:
    """Why trials can't be packed; None if nothing speaks against it.

    Args:
        base: The base model, which no trial is using.
        lora: The trials' adapter settings.
        gradient_checkpointing: Whether activations are recomputed.
    """
    if base.method != "lora":
        return "all weights are trained"
    if lora.dropout > 0.0 and gradient_checkpointing:
        return "recomputing would draw another dropout"
    if _drops_activations(base.untouched()):
        return "the base model drops activations of its own"
    return None


def _drops_activations(model: nn.Module) -> bool:
    """Whether a model computes something else in training mode: what its configuration says may not be used."""
    plan = ForwardPlan.of(model)
    batch = probe_batch(hugging_face_model(model).config.get_text_config().vocab_size)
    device = next(model.parameters()).device
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []), plan.autocasting(device):
        expected = label_logits(model.eval(), batch.to(device), plan).float()
        found = label_logits(model.train(), batch.to(device), plan).float()
    model.eval()
    return bool(
        (found - expected).norm() > 1e-4 * expected.norm()
    )  # ours; a thousand times single precision's rounding


class PackedModel:
    """A base model that carries packed layers between `install` and `lift`.

    Args:
        base: The base model.
        gradient_checkpointing: Recompute activations in the backward pass; as the base was loaded.

    Attributes:
        plan: How its forward pass is run.
        device: Where it is.
    """

    def __init__(self, base: Base, *, gradient_checkpointing: bool) -> None:
        self._base, self._recompute = base, gradient_checkpointing
        self._model: Any = base.untouched()
        self.plan = ForwardPlan.of(self._model)
        self.device = next(self._model.parameters()).device
        self._routing = Routing()
        self._layers: dict[str, tuple[nn.Linear, PackedLinear]] = {}

    def install(self, names: Sequence[str]) -> None:
        """Replaces the layers of these names by packed ones."""
        for name in names:
            linear = self._model.get_submodule(name)
            self._layers[name] = (linear, PackedLinear(linear, self._routing))
            self._model.set_submodule(name, self._layers[name][1])
        self._model.train()
        if self._recompute:
            self._model.activation_checkpointing_enable({"use_reentrant": False})

    def lift(self) -> None:
        """Puts the layers back; the base is as it was loaded."""
        for name, (linear, _) in self._layers.items():
            self._model.set_submodule(name, linear)
        self._layers = {}
        self._base.restore()

    def run(
        self,
        packed: PackedBatch,
        layout: Layout,
        adapters: torch.Tensor,
        dropouts: Sequence[Dropout],
        label_weights: torch.Tensor,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Forward and backward pass of one micro-batch of each slot.

        Args:
            packed: The micro-batches.
            layout: Of `adapters`.
            adapters: (slots, P): each slot's adapter, in the type that products are computed in, each B scaled.
            dropouts: One for each slot, or none.
            label_weights: (labels,): what each label's loss counts for.

        Returns:
            For each slot its samples' summed losses in nats, float64, and the gradient of `adapters`.
        """
        batch = _pinned(packed.batch, self.device).to(self.device)
        label_weights = _pinned(label_weights, self.device).to(self.device, non_blocking=True)
        leaf = adapters.detach().requires_grad_()
        with self._bound(packed, layout, leaf, dropouts):
            with self.plan.autocasting(self.device):
                logits = label_logits(self._model, batch, self.plan)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            nll = functional.cross_entropy(logits, batch.labels, reduction="none")  # (labels,)
            (nll * label_weights.to(nll.dtype)).sum().backward()
        sums = torch.zeros(len(batch), dtype=torch.float64, device=self.device)
        sums.index_add_(0, batch.label_item, nll.detach().double())
        assert leaf.grad is not None
        return [sums[items] for items in packed.items], leaf.grad

    @contextmanager
    def _bound(
        self, packed: PackedBatch, layout: Layout, adapters: torch.Tensor, dropouts: Sequence[Dropout]
    ) -> Iterator[None]:
        """Inside, the layers know their rows and adapters; recomputing in the backward pass needs them too."""
        self._routing.packed, self._routing.dropouts = packed, dropouts
        for name, (down, up) in layout.parts(adapters).items():
            self._layers[name][1].down, self._layers[name][1].up = down, up
        try:
            yield
        finally:
            self._routing.packed, self._routing.dropouts = None, ()
            for _, layer in self._layers.values():
                layer.down = layer.up = None


def read_adapter(model: PeftModel) -> Adapter:
    """The adapter of a PEFT model, as views of its weights.

    Raises:
        UserError: It adapts other layers than plain linear ones.
    """
    adapter = {}
    for name, layer in hugging_face_model(model).named_modules():
        if isinstance(layer, BaseTunerLayer):
            inner = layer.get_base_layer()
            if type(layer) is not LoraLinear or not _is_linear(inner):
                rule = "must be 1 unless all adapted layers are linear ones"
                raise UserError("trials_per_lane", rule, f"{type(inner).__name__} {name}", "set it to 1")
            down, up = (part["default"].get_parameter("weight") for part in (layer.lora_A, layer.lora_B))
            adapter[name] = (down.detach(), up.detach())
    return adapter


def write_adapter(model: PeftModel, adapter: Adapter) -> None:
    """Gives a PEFT model these weights."""
    for name, weights in read_adapter(model).items():
        for weight, new in zip(weights, adapter[name], strict=True):
            weight.copy_(new)


def _is_linear(layer: nn.Module) -> bool:
    """Whether a layer computes W x + b; a subclass of `nn.Linear` may do more."""
    if type(layer) is nn.Linear or not isinstance(layer, nn.Linear):
        return type(layer) is nn.Linear
    x = torch.linspace(-1.0, 1.0, layer.in_features).to(layer.weight)
    with torch.no_grad():
        return torch.allclose(layer(x), functional.linear(x, layer.weight, layer.bias), rtol=1e-2, atol=1e-4)


def _pinned(host: Any, device: torch.device) -> Any:
    """A batch or a tensor in memory from which a GPU copies without stopping the host."""
    if device.type != "cuda":
        return host
    if isinstance(host, torch.Tensor):
        return host.pin_memory()
    tensors = {name: value for name, value in vars(host).items() if isinstance(value, torch.Tensor)}
    return replace(host, **{name: tensor.pin_memory() for name, tensor in tensors.items()})
