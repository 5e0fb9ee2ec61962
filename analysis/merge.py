"""Merges a LoRA adapter into its base model and proves that the result is the same function."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from trainables.errors import UserError

LIMIT = 1e-4
MAX_TOKENS = 256
PROMPTS = (
    "The total of the second column is",
    "Question: What is the invoice number?\nAnswer:",
    "1, 1, 2, 3, 5, 8, 13,",
    "def mean(values):\n    return",
)


@dataclass(frozen=True)
class Parity:
    """How far a merged and reloaded model is from the unmerged one.

    Attributes:
        largest_deviation: Largest |difference| of a logit, over all positions and the whole vocabulary.
        largest_logit: Largest |logit| of the unmerged model: the scale.
        same_top: Share of positions at which both models rank the same token first, 0 to 1.
        positions: Positions compared.
    """

    largest_deviation: float
    largest_logit: float
    same_top: float
    positions: int

    @property
    def limit(self) -> float:
        """Largest deviation that is let pass: 1e-4 of the scale (at least of 1).

        W x + B A x and (W + B A) x differ by float32 rounding alone: 3.4e-6 of the scale on a 135M model of 30 layers
        (measured, 1.2e-4 of 35). A wrong or half-merged adapter differs by far more. The threshold is ours.
        """
        return LIMIT * max(1.0, self.largest_logit)

    def __str__(self) -> str:
        return (
            f"logits deviate by at most {self.largest_deviation:.2g} (limit {self.limit:.2g}) over {self.positions} "
            f"positions; the same first token at {100 * self.same_top:.1f} %"
        )


def merge_adapter(
    base: Path, adapter: Path, out: Path, texts: Sequence[str], *, trust_remote_code: bool = False
) -> Parity:
    """Merges in float32, saves as safetensors, reloads with plain `transformers` and compares logits.

    Args:
        base: Folder of the base model and its tokenizer.
        adapter: Folder of the adapter.
        out: Folder that the merged model is written to.
        texts: Texts to compare on, beside a few fixed ones.
        trust_remote_code: Let code that comes with the model run.

    Returns:
        The deviation found, within its limit.

    Raises:
        UserError: The merged model deviates, or has logits that are not finite.
    """
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
    prompts = [tokenizer(text, return_tensors="pt").input_ids[:, :MAX_TOKENS] for text in [*PROMPTS, *texts]]
    prompts = [prompt for prompt in prompts if prompt.numel() > 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads an attribute that transformers has renamed
        model = PeftModel.from_pretrained(_load(base, trust_remote_code), str(adapter)).eval()
    before = _logits(model, prompts)
    merged = model.merge_and_unload()
    merged.save_pretrained(out)
    for weights in out.glob("*.safetensors"):  # written readable by their owner alone, unlike all other files
        weights.chmod((out / "config.json").stat().st_mode)
    del model, merged
    parity = compare_logits(before, _logits(_load(out, trust_remote_code), prompts))
    if not parity.largest_deviation <= parity.limit:  # a NaN fails this, as it must
        raise UserError("--merge", "the merged model must equal the unmerged one", parity, "export without --merge")
    return parity


def compare_logits(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> Parity:
    """Compares two models' logits, one (positions, vocabulary) tensor a prompt each; NaN deviates by NaN."""
    first, second = torch.cat(list(before)), torch.cat(list(after))
    return Parity(
        largest_deviation=float((first - second).abs().max()),
        largest_logit=float(first.abs().max()),
        same_top=float((first.argmax(-1) == second.argmax(-1)).float().mean()),
        positions=len(first),
    )


def _load(folder: Path, trust_remote_code: bool) -> nn.Module:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=trust_remote_code)
    return model.eval()


@torch.inference_mode()
def _logits(model: nn.Module, prompts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [model(input_ids=prompt).logits[0].float() for prompt in prompts]
