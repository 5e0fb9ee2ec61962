"""How a model's forward pass is run: flat or padded, logits at labels or everywhere, in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class ForwardPlan:
    """What `trainables.models.base_model.load_base` found out about a model. The default is right for every causal LM.

    Attributes:
        longest_flat: The longest sequence that may be laid end to end with others; batches with longer ones are padded.
        head_at_labels: Whether the output head may be given the hidden states at labels only.
        autocast: Type in which matrix products are computed; None for the weights' own.
        pad_id: Token for padding; it is masked, so that any will do.
    """

    longest_flat: int = 0
    head_at_labels: bool = False
    autocast: torch.dtype | None = None
    pad_id: int = 0

    @staticmethod
    def of(model: nn.Module) -> ForwardPlan:
        """The plan that was attached to a model, or to the one inside a PEFT model; else the default."""
        plan = getattr(hugging_face_model(model), "forward_plan", None)
        return plan if isinstance(plan, ForwardPlan) else ForwardPlan()

    def attach(self, model: PreTrainedModel) -> None:
        """Makes this the plan of a model."""
        vars(model)["forward_plan"] = self

    def autocasting(self, device: torch.device) -> AbstractContextManager[None]:
        """The context in which the forward pass runs."""
        return torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None)


def hugging_face_model(model: nn.Module) -> PreTrainedModel:
    """The `transformers` model inside a PEFT model (its layers carry the adapters), or the model itself."""
    return cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
