"""Is an exported folder the model that was trained? Proved by loading it anew, in a fresh process.

Three comparisons: its logits and its held-out losses with those of the trained model, all of them computed in float32,
and these losses with those that the sweep recorded for the checkpoint, in whatever precision it trained.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from analysis.records.sweep import HeldoutScore
from trainables.data.dataset import TokenizedSet
from trainables.errors import UserError

LIMIT = 1e-4
"""Largest deviation of a logit, as a part of the scale. W x + B A x and (W + B A) x differ by float32 rounding alone:
3.4e-6 of the scale on a 135M model of 30 layers (measured, 1.2e-4 of 35). A wrong or half-merged adapter differs by far
more. The threshold is ours."""

HELDOUT_LIMIT = 1e-4
"""Largest difference of an area's mean held-out loss between the exported and the trained model, nats a token."""

RECORDED_LIMITS = {"fp32": 1e-4, "bf16": 0.02, "auto": 0.02}
"""Largest difference of an area's mean held-out loss between the trained model in float32 and what was recorded, nats a
token, by the precision that the trial was scored in: float32 differs by rounding, bf16 keeps eight bits of each factor.
"auto" is of sweeps that did not record what it became. Ours; the second is deliberately wide, and is shown."""


class AreaMeans(NamedTuple):
    """An area's mean held-out loss, nats a token: as recorded, and recomputed in float32 by both models."""

    recorded: float
    trained: float
    exported: float


@dataclass(frozen=True)
class Parity:
    """How far a reloaded model is from the trained one.

    Attributes:
        largest_deviation: Largest |difference| of a logit, over all positions and the whole vocabulary.
        largest_logit: Largest |logit| of the trained model: the scale.
        same_top: Share of positions at which both models rank the same token first, 0 to 1.
        positions: Positions compared.
        heldout: By area, its mean held-out losses.
        precision: What the recorded losses were computed in.
        not_recomputed: Why held-out losses were not recomputed; None where they were.
    """

    largest_deviation: float
    largest_logit: float
    same_top: float
    positions: int
    heldout: Mapping[str, AreaMeans] = field(default_factory=dict)
    precision: str = "fp32"
    not_recomputed: str | None = None

    @property
    def limit(self) -> float:
        """Largest deviation of a logit that is let pass: 1e-4 of the scale (at least of 1)."""
        return LIMIT * max(1.0, self.largest_logit)

    @property
    def heldout_difference(self) -> float:
        """Largest |difference| of an area's mean between the exported and the trained model; NaN where not finite."""
        return _largest(means.exported - means.trained for means in self.heldout.values())

    @property
    def recorded_difference(self) -> float:
        """Largest |difference| of an area's mean between the trained model and what was recorded of it."""
        return _largest(means.trained - means.recorded for means in self.heldout.values())

    @property
    def holds(self) -> bool:
        """Whether all are within their limits; a NaN is not."""
        return (
            self.largest_deviation <= self.limit
            and self.heldout_difference <= HELDOUT_LIMIT
            and self.recorded_difference <= RECORDED_LIMITS[self.precision]
        )

    def __str__(self) -> str:
        logits = (
            f"logits deviate by at most {self.largest_deviation:.2g} (limit {self.limit:.2g}) over {self.positions} "
            f"positions; the same first token at {100 * self.same_top:.1f} %"
        )
        if self.not_recomputed:
            return f"{logits}; held-out losses not recomputed: {self.not_recomputed}"
        return (
            f"{logits}; held-out losses of {len(self.heldout)} areas differ by at most {self.heldout_difference:.2g} "
            f"nats a token (limit {HELDOUT_LIMIT:.2g}), and from those that the sweep recorded ({self.precision}) by "
            f"{self.recorded_difference:.2g} (limit {RECORDED_LIMITS[self.precision]:.2g})"
        )


@dataclass(frozen=True)
class Items:
    """Held-out items to recompute.

    Attributes:
        sets: The tokenized areas by name.
        recorded: The checkpoint's scores by area and id, as the sweep wrote them.
        precision: What the trial was computed in; the sweep's `training.precision` where that was not recorded.
        missing: Why there are none; None where there are.
    """

    sets: Mapping[str, TokenizedSet]
    recorded: Mapping[tuple[str, str], HeldoutScore]
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


def request(prompts: Sequence[torch.Tensor], items: Items) -> dict[str, torch.Tensor]:
    """What `analysis.export.reload.answer` is asked of both models: (tokens,) ids of each text, and the held-out
    items."""
    asked = {f"prompt-{k}": ids for k, ids in enumerate(prompts)}
    for number, (area, place) in enumerate(_places(items)):
        sequence = items.sets[area].sequence(place)
        asked[f"item-{number}"] = torch.from_numpy(sequence.input_ids.astype(np.int64))
        asked[f"mask-{number}"] = torch.from_numpy(np.array(sequence.label_mask))
    return asked


def check(
    folder: Path,
    asked: dict[str, torch.Tensor],
    trained: Mapping[str, torch.Tensor],
    items: Items,
    *,
    trust: bool = False,
) -> Parity:
    """Loads an exported folder in a fresh process and compares.

    Args:
        folder: What was exported.
        asked: The `request`.
        trained: The trained model's answer to it.
        items: Held-out items, and what the sweep recorded of them.
        trust: Let code that comes with the model run.

    Raises:
        UserError: The folder doesn't load, or the model deviates by more than the limits.
    """
    exported = _ask(folder, asked, trust)
    prompts = [name for name in exported if name.startswith("logits-")]
    parity = replace(
        compare_logits([trained[name] for name in prompts], [exported[name] for name in prompts]),
        heldout=_means(items, trained, exported),
        precision=items.precision,
        not_recomputed=items.missing,
    )
    if not parity.holds:
        remedy = "export another checkpoint, or without --merge" if parity.heldout or items.missing else "report this"
        raise UserError(str(folder), "the reloaded model must equal the trained one", parity, remedy)
    return parity


def _places(items: Items) -> list[tuple[str, int]]:
    return [(area, place) for area, found in items.sets.items() for place in range(len(found))]


def _means(
    items: Items, trained: Mapping[str, torch.Tensor], exported: Mapping[str, torch.Tensor]
) -> dict[str, AreaMeans]:
    """By area, the means over the items that were recorded."""
    losses: dict[str, list[tuple[float, float, float]]] = {area: [] for area in items.sets}
    for number, (area, place) in enumerate(_places(items)):
        recorded = items.recorded[area, items.sets[area].ids[place]].nll
        losses[area].append((recorded, float(trained[f"nll-{number}"]), float(exported[f"nll-{number}"])))
    return {area: AreaMeans(*(float(mean) for mean in np.mean(found, axis=0))) for area, found in losses.items()}


def _largest(differences: Iterable[float]) -> float:
    sizes = [abs(difference) for difference in differences]
    return math.nan if any(math.isnan(size) for size in sizes) else max(sizes, default=0.0)


def _ask(folder: Path, request: dict[str, torch.Tensor], trust: bool) -> dict[str, torch.Tensor]:
    with tempfile.TemporaryDirectory(prefix="reload-") as place:
        asked, answered = Path(place) / "request.safetensors", Path(place) / "result.safetensors"
        save_file(request, asked)
        flags = ["--trust-remote-code"] if trust else []
        command = [
            sys.executable,
            "-m",
            "analysis.export.reload",
            str(folder.absolute()),
            str(asked),
            str(answered),
            *flags,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            remedy = "see that transformers and peft can load it"
            raise UserError(str(folder), "must load in a fresh process", said, remedy)
        return load_file(answered)
