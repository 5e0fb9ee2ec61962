"""Decide whether trials can be packed on a base model."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn import functional

from trainables.config.sections import LoraConfig, TrainingConfig
from trainables.models.base_model import Base
from trainables.models.forward_plan import ForwardPlan, hugging_face_model
from trainables.models.forward_probe import probe_batch
from trainables.models.layers.nf4 import Nf4Linear
from trainables.models.sharding.shards import whole
from trainables.models.token_losses import label_logits


class Packable:
    """Decides whether trials can be packed on a base model."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._of_base: str | None = None
        self._of_layers: dict[str, str | None] = {}

    def obstacle(self, lora: LoraConfig, training: TrainingConfig) -> str | None:
        """The reason why trials with these settings can't be packed, or None; ends the base's current trial."""
        if self._base.method != "lora":
            return "all weights are trained"
        if training.optimizer != "adamw":
            return f"training.optimizer={training.optimizer} keeps the moments of one trial"
        if lora.dropout > 0.0 and self._base.gradient_checkpointing:
            return "recomputing would draw another dropout"
        # Each check runs or wraps the model once; the answers don't change, so they are cached by target layers.
        layers = str(lora.target_modules)
        if layers not in self._of_layers:
            if drops_activations(self._base.untouched()):
                self._of_base = "the base model drops activations of its own"
            self._of_layers[layers] = self._of_base or _special_layer(self._base, lora)
        return self._of_layers[layers]


def drops_activations(model: nn.Module) -> bool:
    """Whether a model's output differs in training mode, as dropout makes it."""
    # Tried on the model, because configurations name dropouts that the code doesn't use.
    plan = ForwardPlan.of(model)
    batch = probe_batch(hugging_face_model(model).config.get_text_config().vocab_size)
    device = next(model.parameters()).device
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []), plan.autocasting(device):
        expected = label_logits(model.eval(), batch.to(device), plan).float()
        found = label_logits(model.train(), batch.to(device), plan).float()
    model.eval()
    rounding = 1e-4  # a thousand times single precision's; our choice
    return bool((found - expected).norm() > rounding * expected.norm())


def adapted_layers(model: PeftModel) -> dict[str, Any]:
    """The layers that carry an adapter, by their names in the base model."""
    modules = hugging_face_model(model).named_modules()
    return {name: layer for name, layer in modules if isinstance(layer, BaseTunerLayer)}


def _special_layer(base: Base, lora: LoraConfig) -> str | None:
    """The first adapted layer that is not a plain linear one, or not adapted as one, by kind and name."""
    model = base.prepare(lora, seed=0)
    assert isinstance(model, PeftModel)
    try:
        for name, layer in adapted_layers(model).items():
            inner = layer.get_base_layer()
            if type(layer) is not LoraLinear or not _is_linear(inner):
                return f"{type(inner).__name__} {name}, which is not adapted as a plain linear layer"
    finally:
        base.restore()
    return None


def _is_linear(layer: nn.Module) -> bool:
    if isinstance(layer, Nf4Linear):
        return True
    if type(layer) is nn.Linear or not isinstance(layer, nn.Linear):
        return type(layer) is nn.Linear
    # A subclass of nn.Linear may compute more than W x + b (a scale, a quantization): compare on one input.
    weights = {
        name: whole(weight) for name, weight in layer.named_parameters()
    }  # outside a pass they may be shared out
    x = torch.linspace(-1.0, 1.0, layer.in_features).to(weights["weight"])[None]  # (1, in): some take no vector
    with torch.no_grad():
        found = torch.func.functional_call(layer, weights, (x,))
        expected = functional.linear(x, weights["weight"], weights.get("bias"))
    return isinstance(found, torch.Tensor) and torch.allclose(found, expected, rtol=1e-2, atol=1e-4)
