"""Loads an exported model as its users will, with plain `transformers`, in a process of its own.

`analysis.export.verification` runs `python -m analysis.export.reload FOLDER REQUEST RESULT`, with
`--trust-remote-code` where the model needs it and `--nf4` for an adapter whose base is loaded in 4 bits.
REQUEST and RESULT are safetensors files: `prompt-K` (tokens,) int64 asks for `logits-K` (tokens, vocabulary) float32.
`item-K` (tokens,) int64 with `mask-K` (tokens,) bool asks for `nll-K`, the mean loss in nats over the masked tokens.
"""

from __future__ import annotations

import sys
from logging import getLogger

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging

log = getLogger(__name__)
# As `model.quantize: nf4` quantizes.
NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)


def main(arguments: list[str]) -> None:
    folder, request, result = arguments[:3]
    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trust = "--trust-remote-code" in arguments[3:]
    more = {"quantization_config": NF4, "device_map": device} if "--nf4" in arguments[3:] else {}
    model: nn.Module = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=trust, **more
    )
    for layer in model.modules():
        # In evaluation bitsandbytes rounds to bf16 on CPUs that are fast in it; compared is in float32.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            vars(layer)["support_avx512bf16_for_cpu"] = False
    save_file(answer((model if more else model.to(device)).eval(), load_file(request)), result)


@torch.inference_mode()
def answer(model: nn.Module, request: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Computes the logits and losses of a request; see the module."""
    log.info("computing %d texts and held-out items", sum(not name.startswith("mask-") for name in request))
    found = {}  # one sequence at a time: no padding that the mask must undo
    for name, ids in request.items():
        kind, _, number = name.partition("-")
        if kind == "prompt":
            found[f"logits-{number}"] = logits_of(model, ids)
        elif kind == "item":
            found[f"nll-{number}"] = mean_loss(logits_of(model, ids), ids, request[f"mask-{number}"])
    return found


def logits_of(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """(tokens, vocabulary) float32 on the CPU."""
    device = next(model.parameters()).device
    return model(input_ids=ids[None].to(device)).logits[0].float().cpu()


def mean_loss(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the masked tokens, each predicted by the position before it; a float64 scalar."""
    at = torch.nonzero(mask).squeeze(1)
    return nn.functional.cross_entropy(logits[at - 1].double(), ids[at])


if __name__ == "__main__":
    main(sys.argv[1:])
