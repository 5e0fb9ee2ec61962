"""Proves that an exported folder is the trained model, by loading it in a fresh process.

Compared are its logits and held-out losses with the trained model's, in float32, and the trained model's losses with
those that the sweep recorded, in the precision of training.
"""

from __future__ import annotations

import logging
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

# Largest deviation of a logit, as a part of the scale. W x + B A x and (W + B A) x differ only by float32 rounding:
# 3.4e-6 of the scale on a 135M model of 30 layers (measured, 1.2e-4 of 35). A wrong or half-merged adapter differs by
# far more. The threshold is ours.
LIMIT = 1e-4

# Largest difference of an area's mean held-out loss between the exported and the trained model, nats a token.
HELDOUT_LIMIT = 1e-4

# Largest difference of an area's mean held-out loss between the trained model in float32 and the recorded one, nats a
# token, by the precision that the trial was scored in: float32 differs by rounding, bf16 keeps eight bits of each
# factor. "auto" stands for sweeps that did not record what it became. Ours; the second is deliberately wide, and shown.
RECORDED_LIMITS = {"fp32": 1e-4, "bf16": 0.02, "auto": 0.02}


log = logging.getLogger(__name__)


class AreaMeans(NamedTuple):
    """An area's mean held-out loss, nats a token: as recorded, and recomputed in float32 by both models."""

    recorded: float
    trained: float
    exported: float


@dataclass(frozen=True)
class Parity:
    """Deviation of a reloaded model from the trained one."""

    largest_deviation: float  # largest |difference| of a logit, over all positions and the whole vocabulary
    largest_logit: float  # largest |logit| of the trained model: the scale
    same_top: float  # share of positions at which both models rank the same token first, 0 to 1
    positions: int  # positions compared
    heldout: Mapping[str, AreaMeans] = field(default_factory=dict)  # mean held-out losses by area
    precision: str = "fp32"  # precision of the recorded losses
    not_recomputed: str | None = None  # why held-out losses were not recomputed; None where they were
    compared: tuple[int, int] = (0, 0)  # held-out items whose losses were recomputed, and all
    other_weights: bool = False  # whether an adapter trained on a base in 4 bits is merged into the base's own weights

    @property
    def limit(self) -> float:
        """Largest deviation of a logit that passes."""
        return LIMIT * max(1.0, self.largest_logit)

    @property
    def heldout_difference(self) -> float:
        """Largest |difference| of an area's mean between the exported and the trained model; NaN if one is NaN."""
        return _largest(means.exported - means.trained for means in self.heldout.values())

    @property
    def recorded_difference(self) -> float:
        """Largest |difference| of an area's mean between the trained model and the record."""
        return _largest(means.trained - means.recorded for means in self.heldout.values())

    @property
    def shift(self) -> float:
        """The exported model's mean held-out loss minus the recorded one, of the area where they differ most."""
        return max((means.exported - means.recorded for means in self.heldout.values()), key=abs, default=0.0)

    @property
    def holds(self) -> bool:
        """Whether every deviation is within its limit."""
        return (  # a NaN fails: it compares as false
            self.largest_deviation <= self.limit
            and self.heldout_difference <= HELDOUT_LIMIT
            and (self.other_weights or self.recorded_difference <= RECORDED_LIMITS[self.precision])
        )

    def __str__(self) -> str:
        within = "equal" if self.largest_deviation <= self.limit else "differ"
        logits = (
            f"logits {'identical' if self.largest_deviation == 0 else within} (max diff {self.largest_deviation:.2g}, "
            f"limit {self.limit:.2g}, {self.positions} positions), top-1 token agrees {100 * self.same_top:.4g} %"
        )
        if self.not_recomputed:
            return f"{logits}; held-out losses not compared: {self.not_recomputed}"
        items = f" on {self.compared[0]} of {self.compared[1]} items" if self.compared[0] < self.compared[1] else ""
        losses = (
            f"{logits}; held-out losses{items}: max diff {self.heldout_difference:.2g} nats/token (limit "
            f"{HELDOUT_LIMIT:.2g})"
        )
        if self.other_weights:
            return f"{losses}, {self.shift:+.2g} at most to the sweep's ({self.precision}, before the merge, in 4 bits)"
        limit = RECORDED_LIMITS[self.precision]
        return f"{losses}, {self.recorded_difference:.2g} to the sweep's ({self.precision}, limit {limit:.2g})"


@dataclass(frozen=True)
class Items:
    """Held-out items to recompute."""

    sets: Mapping[str, TokenizedSet]  # the tokenized areas by name
    recorded: Mapping[tuple[str, str], HeldoutScore]  # the checkpoint's scores by area and id, as the sweep wrote them
    precision: str  # precision of the trial; the sweep's `training.precision` where the trial did not record it
    missing: str | None = None  # reason why there are none; None where there are
    each: int | None = None  # items of each area to recompute, taken evenly; None for all
    other_weights: bool = False  # as in `Parity`


def compare_logits(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> Parity:
    """Compares the logits of two models, a (positions, vocabulary) tensor for each prompt."""
    first, second = torch.cat(list(before)), torch.cat(list(after))
    return Parity(
        largest_deviation=float((first - second).abs().max()),
        largest_logit=float(first.abs().max()),
        same_top=float((first.argmax(-1) == second.argmax(-1)).float().mean()),
        positions=len(first),
    )


def request(prompts: Sequence[torch.Tensor], items: Items) -> dict[str, torch.Tensor]:
    """The tensors that `analysis.export.reload.answer` reads: ids of each text, ids and masks of each item."""
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
    quantized: bool = False,
) -> Parity:
    """Loads an exported folder in a fresh process and compares.

    Args:
        folder: The exported folder.
        asked: The result of `request`.
        trained: The trained model's answer.
        items: Held-out items with their recorded scores.
        trust: Run code that comes with the model.
        quantized: Load the base model in 4 bits.

    Raises:
        UserError: The folder doesn't load, or the model deviates by more than the limits.
    """
    log.info("loading what was written in a fresh process, to compute the same")
    exported = _ask(folder, asked, [*["--trust-remote-code"] * trust, *["--nf4"] * quantized])
    prompts = [name for name in exported if name.startswith("logits-")]
    parity = replace(
        compare_logits([trained[name] for name in prompts], [exported[name] for name in prompts]),
        heldout=_means(items, trained, exported),
        precision=items.precision,
        not_recomputed=items.missing,
        compared=(len(_places(items)), sum(len(found) for found in items.sets.values())),
        other_weights=items.other_weights,
    )
    if not parity.holds:
        remedy = "export another checkpoint, or without --merge" if parity.heldout or items.missing else "report this"
        raise UserError(str(folder), "the reloaded model must equal the trained one", parity, remedy)
    return parity


def _places(items: Items) -> list[tuple[str, int]]:
    found = []
    for area, one in items.sets.items():
        most = len(one) if items.each is None else min(items.each, len(one))
        found += [(area, place) for place in np.linspace(0, len(one) - 1, most).astype(int).tolist()]
    return found


def _means(
    items: Items, trained: Mapping[str, torch.Tensor], exported: Mapping[str, torch.Tensor]
) -> dict[str, AreaMeans]:
    losses: dict[str, list[tuple[float, float, float]]] = {area: [] for area in items.sets}
    for number, (area, place) in enumerate(_places(items)):
        recorded = items.recorded[area, items.sets[area].ids[place]].nll
        losses[area].append((recorded, float(trained[f"nll-{number}"]), float(exported[f"nll-{number}"])))
    return {area: AreaMeans(*(float(mean) for mean in np.mean(found, axis=0))) for area, found in losses.items()}


def _largest(differences: Iterable[float]) -> float:
    sizes = [abs(difference) for difference in differences]
    return math.nan if any(math.isnan(size) for size in sizes) else max(sizes, default=0.0)


def _ask(folder: Path, request: dict[str, torch.Tensor], flags: list[str]) -> dict[str, torch.Tensor]:
    with tempfile.TemporaryDirectory(prefix="reload-") as place:
        asked, answered = Path(place) / "request.safetensors", Path(place) / "result.safetensors"
        save_file(request, asked)
        files = [folder.absolute(), asked, answered]
        command: list[str | Path] = [sys.executable, "-m", "analysis.export.reload", *files, *flags]
        # A process of its own, as a user's: nothing that this one imported or patched can help the folder to load.
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            remedy = "check that transformers and peft can load it"
            raise UserError(str(folder), "must load in a fresh process", said, remedy)
        return load_file(answered)
