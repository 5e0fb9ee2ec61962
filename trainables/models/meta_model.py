"""What a model's configuration tells before its weights are read.

The model is built on the meta device, where weights take no memory. Imports of torch stay inside functions: the plan
compares what comes back without them.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.config.sections import LoraConfig, ModelConfig
from trainables.errors import UserError
from trainables.models.pretrained import broken_config, causal_config

if TYPE_CHECKING:
    from torch import nn

RULES = 1  # count up when the same model would get other facts: the plan keeps them

# These compute a table for so many positions in each forward pass, and keep none (transformers 5.23).
TABLE_IN_THE_CODE = ("ctrl", "mpt")


@dataclass(frozen=True)
class AdapterFacts:
    """What an adapter changes."""

    trained: int  # weights of the adapter
    share: float  # of the model's matrices, 0 to 1, by number of weights
    left_out: dict[str, float]  # their shares by name, the largest first


@dataclass(frozen=True)
class ModelFacts:
    """What the plan compares with the data and the config."""

    kind: str  # its class
    parameters: int  # tied ones count once
    recomputes: bool  # whether it can recompute activations in the backward pass
    embeddings: int  # tokens that have one
    positions: int | None  # the longest sequence that the model was made for; None where nothing limits it
    positions_end: bool  # whether a longer one fails, for positions come from a table
    adapters: list[AdapterFacts]
    quantizable: int  # weights that `model.quantize` puts into 4 bits
    kept_whole: dict[str, float]  # shares of the model's matrices that it does not, by name, the largest first


def inspect_model(path: str | Path, model: ModelConfig, loras: Sequence[LoraConfig]) -> ModelFacts:
    """Build a model and its adapters on the meta device.

    Args:
        path: A folder from `resolve_model`.
        model: Tells whether the model's own code may run.
        loras: The adapters that trials will train; none for full fine-tuning.

    Raises:
        UserError: The model is no causal LM, or an adapter can't be put on it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from trainables.models.adapter.targets import coverage
    from trainables.models.forward_plan import embedded_tokens
    from trainables.models.layers.nf4 import quantizable

    config = causal_config(path, model)
    try:
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(config, trust_remote_code=model.trust_remote_code)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, AssertionError) as error:
        raise broken_config(path, error) from error
    positions, positions_end = position_limit(built)
    in_4_bits = quantizable(built)
    return ModelFacts(
        kind=type(built).__name__,
        recomputes=built.supports_gradient_checkpointing,
        parameters=sum(weight.numel() for weight in built.parameters()),
        embeddings=embedded_tokens(built),
        positions=positions,
        positions_end=positions_end,
        adapters=[_adapter(built, lora) for lora in loras],
        quantizable=sum(layer.get_parameter("weight").numel() for layer in in_4_bits.layers.values()),
        kept_whole=coverage(built, in_4_bits)[1],
    )


def answer() -> None:
    """Inspect for another process: reads the pickled arguments of `inspect_model`, writes its result or `UserError`."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not stand in the answer
    try:
        found: ModelFacts | UserError = inspect_model(*pickle.load(sys.stdin.buffer))
    except UserError as error:
        found = error
    with output:
        pickle.dump(found, output)


def _adapter(model: Any, lora: LoraConfig) -> AdapterFacts:
    from trainables.models.adapter.targets import chosen_targets, coverage

    targets = chosen_targets(model, lora)
    trained = targets.adapter_weights(lora.r)
    return AdapterFacts(_attached(model, lora) if trained is None else trained, *coverage(model, targets))


def _attached(model: Any, lora: LoraConfig) -> int:
    """Weights of an adapter as PEFT attaches it."""
    import torch

    from trainables.models.adapter.attach import attach_adapter

    with torch.device("meta"):  # adapters of hundreds of experts have billions of weights
        adapted = attach_adapter(model, lora)
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    adapted.unload()
    return trained


def position_limit(model: Any) -> tuple[int | None, bool]:
    """Tokens that a model was made for, None where it does not say; and whether it can take no more."""
    config = model.config.get_text_config()
    names = ("max_position_embeddings", "max_seq_len", "context_length")
    made_for = next((most for name in names if (most := getattr(config, name, None)) and most > 0), None)
    if tables := list(_position_tables(model, made_for)):
        return min(tables), True
    return made_for, config.model_type in TABLE_IN_THE_CODE


def _position_tables(model: Any, made_for: int | None) -> Iterator[int]:
    """The usable length of each table of positions: learnt embeddings, or sines in a buffer."""
    import torch

    tokens, text = model.get_input_embeddings(), model.get_decoder()
    for name, module in text.named_modules():
        if isinstance(module, torch.nn.Embedding) and module is not tokens and _is_of_positions(name):
            yield module.num_embeddings - _skipped(module)
        for kind, buffer in module.named_buffers(recurse=False):
            if _is_of_positions(kind) and buffer.ndim == 2 and len(buffer) == made_for:
                yield len(buffer)


def _is_of_positions(name: str) -> bool:
    return name.endswith("wpe") or "position" in name


def _skipped(table: nn.Module) -> int:
    # OPT's and BART's tables begin with rows that no position uses, RoBERTa's after the padding token's.
    padding = getattr(table, "padding_idx", None)
    return int(getattr(table, "offset", 0)) + (0 if padding is None else int(padding) + 1)
