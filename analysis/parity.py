"""Is an exported folder the model that was trained? Proved by loading it anew, in a fresh process.

Two comparisons: logits with those of the trained model, and the held-out losses, recomputed, with those that the sweep
recorded for the checkpoint.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from analysis.records import ItemScore
from trainables.data import TokenisedSet
from trainables.errors import UserError

LIMIT = 1e-4
"""Largest deviation of a logit, as a part of the scale. W x + B A x and (W + B A) x differ by float32 rounding alone:
3.4e-6 of the scale on a 135M model of 30 layers (measured, 1.2e-4 of 35). A wrong or half-merged adapter differs by far
more. The threshold is ours."""

HELDOUT_LIMITS = {"fp32": 1e-4, "bf16": 0.02, "auto": 0.02}
"""Largest difference of an area's mean held-out loss, nats a token, by the precision that the trial was scored in:
float32 differs by rounding; bf16 keeps eight bits of each factor, and the export is recomputed in float32. "auto" is of
sweeps that did not record what it became. Ours; the second is deliberately wide, and the figure is shown."""


@dataclass(frozen=True)
class Parity:
    """How far a reloaded model is from the trained one.

    Attributes:
        largest_deviation: Largest |difference| of a logit, over all positions and the whole vocabulary.
        largest_logit: Largest |logit| of the trained model: the scale.
        same_top: Share of positions at which both models rank the same token first, 0 to 1.
        positions: Positions compared.
        heldout: By area, its mean held-out loss as recorded and as recomputed, nats a token.
        heldout_limit: Largest difference that is let pass.
        not_recomputed: Why held-out losses were not recomputed; None where they were.
    """

    largest_deviation: float
    largest_logit: float
    same_top: float
    positions: int
    heldout: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    heldout_limit: float = HELDOUT_LIMITS["fp32"]
    not_recomputed: str | None = None

    @property
    def limit(self) -> float:
        """Largest deviation of a logit that is let pass: 1e-4 of the scale (at least of 1)."""
        return LIMIT * max(1.0, self.largest_logit)

    @property
    def heldout_difference(self) -> float:
        """Largest |difference| of an area's mean; 0 without areas, NaN where a loss is not finite."""
        differences = [abs(after - before) for before, after in self.heldout.values()]
        return math.nan if any(math.isnan(d) for d in differences) else max(differences, default=0.0)

    @property
    def holds(self) -> bool:
        """Whether both are within their limits; a NaN is not."""
        return self.largest_deviation <= self.limit and self.heldout_difference <= self.heldout_limit

    def __str__(self) -> str:
        logits = (
            f"logits deviate by at most {self.largest_deviation:.2g} (limit {self.limit:.2g}) over {self.positions} "
            f"positions; the same first token at {100 * self.same_top:.1f} %"
        )
        if self.not_recomputed:
            return f"{logits}; held-out losses not recomputed: {self.not_recomputed}"
        worst = f"{self.heldout_difference:.2g} nats a token (limit {self.heldout_limit:.2g})"
        return f"{logits}; held-out losses of {len(self.heldout)} areas recomputed, they differ by at most {worst}"


@dataclass(frozen=True)
class Items:
    """Held-out items to recompute.

    Attributes:
        sets: The tokenised areas by name.
        recorded: The checkpoint's scores by area and id, as the sweep wrote them.
        precision: What the trial was computed in; the sweep's `training.precision` where that was not recorded.
        missing: Why there are none; None where there are.
    """

    sets: Mapping[str, TokenisedSet]
    recorded: Mapping[tuple[str, str], ItemScore]
    precision: str
    missing: str | None = None


def compare_logits(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> Parity:
    """Compares two models' logits, one (positions, vocabulary) tensor a prompt each; NaN deviates by NaN."""
    first, second = torch.cat(list(before)), torch.cat(list(after))
    return Parity(
        largest_deviation=float((first - second).abs().max()),
        largest_logit=float(first.abs().max()),
        same_top=float((first.argmax(-1) == second.argmax(-1)).float().mean()),
        positions=len(first),
    )


def check(
    folder: Path, prompts: Sequence[torch.Tensor], before: Sequence[torch.Tensor], items: Items, *, trust: bool = False
) -> Parity:
    """Loads an exported folder in a fresh process and compares.

    Args:
        folder: What was exported.
        prompts: (tokens,) ids of each text to compare on.
        before: The trained model's logits on them, (tokens, vocabulary) each.
        items: Held-out items, and what the sweep recorded of them.
        trust: Let code that comes with the model run.

    Raises:
        UserError: The folder doesn't load, or the model deviates by more than the limits.
    """
    request = {f"prompt-{k}": ids for k, ids in enumerate(prompts)}
    keys = [(area, place) for area, found in items.sets.items() for place in range(len(found))]
    for number, (area, place) in enumerate(keys):
        sequence = items.sets[area].sequence(place)
        request[f"item-{number}"] = torch.from_numpy(sequence.input_ids.astype(np.int64))
        request[f"mask-{number}"] = torch.from_numpy(np.array(sequence.label_mask))
    result = _ask(folder, request, trust)
    logits = compare_logits(before, [result[f"logits-{k}"] for k in range(len(prompts))])
    losses = {key: float(result[f"nll-{number}"]) for number, key in enumerate(keys)}
    parity = Parity(
        **{name: getattr(logits, name) for name in ("largest_deviation", "largest_logit", "same_top", "positions")},
        heldout=_means(items, losses),
        heldout_limit=HELDOUT_LIMITS[items.precision],
        not_recomputed=items.missing,
    )
    if not parity.holds:
        remedy = "export another checkpoint, or without --merge" if parity.heldout or items.missing else "report this"
        raise UserError(str(folder), "the reloaded model must equal the trained one", parity, remedy)
    return parity


def _means(items: Items, losses: Mapping[tuple[str, int], float]) -> dict[str, tuple[float, float]]:
    """By area, the mean of the recorded losses and of the recomputed ones, over the items that were recorded."""
    means = {}
    for area, found in items.sets.items():
        recorded = [items.recorded[area, name].nll for name in found.ids]
        means[area] = (float(np.mean(recorded)), float(np.mean([losses[area, k] for k in range(len(found))])))
    return means


def _ask(folder: Path, request: dict[str, torch.Tensor], trust: bool) -> dict[str, torch.Tensor]:
    with tempfile.TemporaryDirectory(prefix="reload-") as place:
        asked, answered = Path(place) / "request.safetensors", Path(place) / "result.safetensors"
        save_file(request, asked)
        flags = ["--trust-remote-code"] if trust else []
        command = [sys.executable, "-m", "analysis.reload", str(folder.absolute()), str(asked), str(answered), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            remedy = "see that transformers and peft can load it"
            raise UserError(str(folder), "must load in a fresh process", said, remedy)
        return load_file(answered)
