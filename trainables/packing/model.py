"""The base model with packed layers in place of its adapted ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from trainables.data.dataset import to_device
from trainables.models.base_model import Base
from trainables.models.forward_plan import ForwardPlan
from trainables.models.token_losses import item_sums, token_losses
from trainables.packing.adapters import Adapter, Layout
from trainables.packing.batches import PackedBatch
from trainables.packing.eligibility import adapted_layers
from trainables.packing.layers import Dropout, PackedLinear, Routing


class PackedModel:
    """A base model that carries packed layers between `install` and `uninstall`."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._model: Any = base.untouched()
        self.plan = ForwardPlan.of(self._model)
        self.device = base.device
        self._routing = Routing()
        self._layers: dict[str, tuple[nn.Linear, PackedLinear]] = {}

    def install(self, names: Sequence[str]) -> None:
        """Replace the named layers by packed ones."""
        for name in names:
            linear = self._model.get_submodule(name)
            self._layers[name] = (linear, PackedLinear(linear, self._routing))
            self._model.set_submodule(name, self._layers[name][1])
        self._model.train()
        if self._base.gradient_checkpointing:
            self._model.activation_checkpointing_enable({"use_reentrant": False})

    def uninstall(self) -> None:
        """Put the original layers back; the base is as it was loaded."""
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
            adapters: (slots, P): each slot's adapter, in the type of the products, each B scaled.
            dropouts: One for each slot, or none.
            label_weights: (labels,): weight of each label's loss.

        Returns:
            For each slot its samples' summed losses in nats, float64, and the gradient of `adapters`.
        """
        batch, label_weights = packed.batch.to(self.device), to_device(label_weights, self.device)
        leaf = adapters.detach().requires_grad_()
        # Backward inside the context too: recomputed layers ask for their rows and adapters again.
        with self._bound(packed, layout, leaf, dropouts):
            nll = token_losses(self._model, batch)  # (labels,)
            # One backward pass of the slots' summed losses: a slot's adapter meets only its own rows' gradients.
            (nll * label_weights.to(nll.dtype)).sum().backward()
        sums = item_sums(nll, batch)  # (sequences,)
        assert leaf.grad is not None
        return [sums[items] for items in packed.items], leaf.grad

    @contextmanager
    def _bound(
        self, packed: PackedBatch, layout: Layout, adapters: torch.Tensor, dropouts: Sequence[Dropout]
    ) -> Iterator[None]:
        """Context in which the layers know their rows and adapters."""
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
    """The adapter of a PEFT model with plain linear layers, as views of its weights."""
    adapter = {}
    for name, layer in adapted_layers(model).items():
        down, up = (part["default"].get_parameter("weight") for part in (layer.lora_A, layer.lora_B))
        adapter[name] = (down.detach(), up.detach())
    return adapter


def write_adapter(model: PeftModel, adapter: Adapter) -> None:
    """Copy an adapter into a PEFT model."""
    for name, weights in read_adapter(model).items():
        for weight, new in zip(weights, adapter[name], strict=True):
            weight.copy_(new)
