"""Put a LoRA adapter on a model and draw its initial weights."""

from __future__ import annotations

import math
import warnings

import peft
import torch
from torch import nn
from transformers import PreTrainedModel

from trainables.config.sections import LoraConfig
from trainables.errors import UserError
from trainables.models.adapter.targets import WHERE, adapter_config


def attach_adapter(model: PreTrainedModel, lora: LoraConfig) -> peft.PeftModel:
    """Put a LoRA adapter on a model, which may lie on the meta device.

    Raises:
        UserError: `lora` names layers that the model doesn't have or that PEFT can't adapt.
    """
    config = adapter_config(model, lora)
    # PEFT draws weights that `draw_adapter` replaces; the fork keeps the caller's generators unchanged.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # a PEFT-transformers matter, no user can act on it
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # PEFT sets it right for Conv1D
        try:
            return peft.get_peft_model(model, config)
        except ValueError as error:
            remedy = "name other layers, or set model.method=full"
            raise UserError(WHERE, "must be layers that PEFT can adapt", error, remedy) from error


def draw_adapter(model: nn.Module, seed: int) -> None:
    """Draw a LoRA adapter's initial weights: A uniform (Kaiming, a = sqrt 5), B zero, as in Hu et al. 2021 and PEFT."""
    # Drawn on the CPU in order of the modules' names, so that every device gets the same numbers.
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if "lora_A" in name:
                drawn = torch.empty(weight.shape, dtype=torch.float32)
                weight.copy_(nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator))
            elif "lora_B" in name:
                weight.zero_()
