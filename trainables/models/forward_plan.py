"""How a model's forward pass runs: flat or padded rows, logits at labels or everywhere, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class ForwardPlan:
    """The shortcuts that a model's forward pass can take. The default is right for every causal LM."""

    longest_flat: int = 0  # the longest sequence that may be laid end to end with others; longer batches are padded
    head_at_labels: bool = False  # whether the output head may get the hidden states at labels only
    autocast: torch.dtype | None = None  # type in which matrix products are computed; None for the weights' own
    pad_id: int = 0  # padding token; any will do, it is masked
    head_in_chunks: bool = False  # whether the output head may run apart from the body, on some labels at a time

    @staticmethod
    def of(model: nn.Module) -> ForwardPlan:
        """The plan attached to a model, or to the model inside a PEFT model; else the default."""
        plan = getattr(hugging_face_model(model), "forward_plan", None)
        return plan if isinstance(plan, ForwardPlan) else ForwardPlan()

    def attach(self, model: PreTrainedModel) -> None:
        vars(model)["forward_plan"] = self

    def autocasting(self, device: torch.device) -> AbstractContextManager[None]:
        """The context in which the forward pass runs."""
        return torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None)


def padding_token(model: PreTrainedModel, tokenizer: Any, otherwise: int) -> int:
    """The tokenizer's padding token, or `otherwise` where there is none or the model has no embedding for it."""
    token = tokenizer.pad_token_id
    # Such a token is often added to a tokenizer after the model's training.
    return otherwise if token is None or token >= embedded_tokens(model) else token


def embedded_tokens(model: PreTrainedModel) -> int:
    """How many tokens have an embedding."""
    return len(cast(nn.Embedding, model.get_input_embeddings()).weight)


def hugging_face_model(model: nn.Module) -> PreTrainedModel:
    """The `transformers` model inside a PEFT model (its layers carry the adapters), or the model itself."""
    from peft import PeftModel  # takes a second, which a plan does without where it can

    return cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
