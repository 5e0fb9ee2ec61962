"""Decoder layers compiled by `torch.compile`, each by itself."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn
from transformers import PreTrainedModel

from trainables.errors import UserError

WHERE = "training.compile"
OFF = "set it to false"


def compile_layers(model: PreTrainedModel, device: torch.device) -> None:
    """Have each decoder layer compiled when it is first called; adapters may still come and go in it.

    Layers of equal shape share their code. What can't be compiled in one runs as before.

    Raises:
        UserError: There is no C++ compiler for a CPU's code, or the model has no list of layers.
    """
    if device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        raise UserError(WHERE, "needs a C++ compiler on CPUs", "no g++", f"install one, or {OFF}")
    lists = (module for module in model.get_decoder().modules() if isinstance(module, nn.ModuleList))
    layers = next(lists, None)
    if layers is None:
        raise UserError(WHERE, "needs a model with a list of layers", type(model).__name__, OFF)
    for layer in layers:
        layer.compile()
