"""Whether trials keep their promises on a device: each check gives figures, and whether they hold.

`held` is None where a check does not apply, with the reason in `why`. Random weights; nothing is downloaded.
"""

from __future__ import annotations

import copy
import importlib.util
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.packing.sides import LORA, Setting
from trainables.config.sections import ModelConfig
from trainables.models import flat_attention
from trainables.models.base_model import Base, load_base
from trainables.models.forward_plan import ForwardPlan
from trainables.models.tiny_llama import build_tiny_llama
from trainables.models.token_losses import token_losses
from trainables.optim.workers import SOLO
from trainables.packing.pack import Pack, StepPart, Stepped
from trainables.training.engine import SingleTrialEngine

Found = dict[str, Any]
Check = Callable[[Setting], Found]

# Few, so that there is something to learn: how often each occurs.
TOKENS_THAT_OCCUR = 250

# Mean gaps of a token's loss in nats, and of a gradient norm relative to it; ours. bf16 keeps 8 bits: 2^-8 = 0.004.
LOSS_GAP, NORM_GAP = 0.02, 0.02
# NF4 moves a random model's losses by about 0.1 nats; a wrong block or scale moves them by whole ones.
NF4_GAP = 0.5


def bf16(setting: Setting) -> Found:
    """Losses in bf16 are those in fp32 up to rounding."""
    if setting.base.precision != "bf16":
        return left_out("products are in fp32 here")
    model = setting.base.untouched()
    whole = copy.deepcopy(model).float()
    replace(ForwardPlan.of(model), autocast=None, longest_flat=0).attach(whole)  # type: ignore[arg-type]
    gap = (_losses(model, setting) - _losses(whole, setting)).abs().mean().item()
    return {"mean_gap": gap, "held": gap < LOSS_GAP}


def flat_rows(setting: Setting) -> Found:
    """Rows without padding are used, and give the losses and gradients of padded batches up to rounding."""
    model = setting.base.untouched()
    plan = ForwardPlan.of(model)
    flat, flat_norm = _losses(model, setting), _first_norm(setting)
    replace(plan, longest_flat=0).attach(model)  # type: ignore[arg-type]
    padded, padded_norm = _losses(model, setting), _first_norm(setting)
    plan.attach(model)  # type: ignore[arg-type]
    gap, norm_gap = (flat - padded).abs().mean().item(), abs(flat_norm / padded_norm - 1)
    held = plan.longest_flat > 0 and gap < LOSS_GAP and norm_gap < NORM_GAP
    return {"longest_flat": plan.longest_flat, "mean_gap": gap, "grad_norm_gap": norm_gap, "held": held}


def kernel(setting: Setting) -> Found:
    """A step reaches the variable-length kernel in every layer, and never goes sequence by sequence."""
    if setting.base.device.type != "cuda":
        return left_out("CPUs go sequence by sequence")
    counts = {"_varlen": 0, "_one_by_one": 0}
    with _counting(counts):
        if setting.base.method == "lora":
            _first_norm(setting)
        else:
            _trained(setting, 0, steps=1)
    layers = setting.base.untouched().config.num_hidden_layers
    # The probe of whether trials can be packed runs every layer, too.
    held = counts["_one_by_one"] == 0 and counts["_varlen"] > 0 and counts["_varlen"] % layers == 0
    return {"layers": layers, "calls": counts["_varlen"], "sequence_by_sequence": counts["_one_by_one"], "held": held}


def neighbors(setting: Setting) -> Found:
    """A slot of NaN changes no other slot, though 0 x NaN is NaN, in attention's masks too."""

    def run(lr: float) -> tuple[list[float], list[float]]:
        sums = []
        with _pack(setting, 3) as pack:
            for step in range(4):
                lrs = (setting.lr, lr, setting.lr)
                parts = [setting.part(slot.seed, step, own) for slot, own in zip(pack.slots, lrs, strict=True)]
                sums.append([_total(stepped) for stepped in pack.step(parts)])
        return [first for first, _, last in sums for first in (first, last)], [middle for _, middle, _ in sums]

    whole, _ = run(setting.lr)
    found, broken = run(1e30)
    gap = max(abs(a - b) for a, b in zip(whole, found, strict=True))
    held = broken[-1] != broken[-1] and gap <= 1e-3 * max(whole)
    return {"broken": str(broken[-1]), "largest_gap": gap, "held": held}


def packed(setting: Setting) -> Found:
    """Packed trials lose as PEFT's layers one by one: at the first step, and at the end by a tenth of the seeds' sd."""
    steps, seeds, rows = setting.pace.steps, range(4), []
    one_by_one = [_trained(setting, seed, steps) for seed in seeds]
    with _pack(setting, len(seeds)) as pack:
        for step in range(steps):
            parts = _parts(pack, setting, step)
            rows.append([_total(one) / part.step_tokens for one, part in zip(pack.step(parts), parts, strict=True)])
    first = max(abs(rows[0][seed] - one_by_one[seed][0]) for seed in seeds)
    ends = [statistics.mean(losses[-5:]) for losses in one_by_one]
    gap = abs(statistics.mean(statistics.mean(row[seed] for row in rows[-5:]) - ends[seed] for seed in seeds))
    spread = statistics.stdev(ends)
    return {"first_gap": first, "end_gap": gap, "seeds_sd": spread, "held": first < LOSS_GAP and gap < spread / 10}


def waits(setting: Setting) -> Found:
    """No step synchronizes with the host: torch raises at one that would."""
    if setting.base.device.type != "cuda":
        return left_out("no GPU")
    with _pack(setting, 4) as pack:
        for step in range(2):
            pack.step(_parts(pack, setting, step))
        parts, stopped = _parts(pack, setting, 2), None
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            pack.step(parts)
        except RuntimeError as error:
            stopped = str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return {"stopped_by": stopped, "held": stopped is None}


def short_memory(setting: Setting) -> Found:
    """Running out of memory raises `torch.OutOfMemoryError`, changes no slot, and the next step works."""
    if setting.base.device.type != "cuda":
        return left_out("no GPU")
    with _pack(setting, 4) as pack:
        parts = _parts(pack, setting, 0)
        torch.cuda.empty_cache()
        hog = torch.empty(max(1, torch.cuda.mem_get_info()[0] - 2**29), dtype=torch.uint8, device="cuda")
        try:
            pack.step(parts)
            raised = "nothing"
        except torch.OutOfMemoryError as error:
            raised = type(error).__name__
        del hog
        steps = [slot.steps for slot in pack.slots]
        losses = [_total(stepped) for stepped in pack.step(parts)]
    good = raised == "OutOfMemoryError" and steps == [0] * 4 and all(loss == loss for loss in losses)
    return {"raised": raised, "steps": steps, "held": good}


def nf4(setting: Setting, folder: Path) -> Found:
    """A base in 4 bits loses about what the whole one does, and its packed trials what PEFT's layers do."""
    if "quantize" not in ModelConfig.model_fields:
        return left_out("model.quantize is not there")
    if not importlib.util.find_spec("bitsandbytes"):
        return left_out("bitsandbytes is not installed")
    build_tiny_llama(folder / "tiny-llama")
    bases = [_tiny(folder, setting, {}), _tiny(folder, setting, {"quantize": "nf4"})]
    whole, quantized = [_losses(base.untouched(), setting, rows=2) for base in bases]
    gap = (whole - quantized).abs().mean().item()
    own = copy.copy(setting)
    own.base = bases[1]
    alone = [_trained(own, seed, steps=1)[0] for seed in range(2)]
    with _pack(own, 2) as pack:
        parts = _parts(pack, own, 0)
        together = [_total(one) / part.step_tokens for one, part in zip(pack.step(parts), parts, strict=True)]
    first = max(abs(one - other) for one, other in zip(alone, together, strict=True))
    return {"mean_gap": gap, "first_gap": first, "held": 0.0 < gap < NF4_GAP and first < LOSS_GAP}


CHECKS: tuple[Check, ...] = (bf16, flat_rows, kernel, neighbors, packed, waits, short_memory)


def left_out(why: str) -> Found:
    """The result of a check that does not apply."""
    return {"held": None, "why": why}


def _tiny(folder: Path, setting: Setting, more: dict[str, Any]) -> Base:
    config = ModelConfig(name="tiny", **more)
    return load_base(folder / "tiny-llama", config, setting.base.precision, setting.base.device)


def _losses(model: Any, setting: Setting, rows: int = 8) -> torch.Tensor:
    batch = setting.samples.batch(range(min(rows, len(setting.samples)))).to(next(model.parameters()).device)
    with torch.no_grad():
        return token_losses(model, batch).float()


@contextmanager
def _pack(setting: Setting, slots: int) -> Iterator[Pack]:
    """Context with a pack of trials of the first seeds; the base is restored whatever happens."""
    pack = Pack(setting.base)
    try:
        for seed in range(slots):
            pack.join(LORA, setting.training, seed)
        yield pack
    finally:
        pack.close()


def _parts(pack: Pack, setting: Setting, step: int) -> list[StepPart]:
    return [setting.part(slot.seed, step, setting.lr) for slot in pack.slots]


def _first_norm(setting: Setting) -> float:
    """Gradient norm of a packed trial's first step."""
    with _pack(setting, 1) as pack:
        (stepped,) = pack.step(_parts(pack, setting, 0))
    return float(stepped.grad_norm)


def _trained(setting: Setting, seed: int, steps: int) -> list[float]:
    """Mean losses of the steps of one trial alone."""
    engine = SingleTrialEngine(setting.base, SOLO)
    slot = engine.join(LORA, setting.training, seed)
    try:
        parts = [setting.part(seed, step, setting.lr) for step in range(steps)]
        return [_total(engine.step([part])[0]) / part.step_tokens for part in parts]
    finally:
        engine.leave(slot)


@contextmanager
def _counting(counts: dict[str, int]) -> Iterator[None]:
    """Context that counts the calls of two functions of `flat_attention`."""
    own = {name: getattr(flat_attention, name) for name in counts}

    def counted(name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            counts[name] += 1
            return own[name](*arguments)

        return call

    for name in counts:
        setattr(flat_attention, name, counted(name))
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(flat_attention, name, function)


def _total(stepped: Stepped) -> float:
    return sum(losses.sums.sum().item() for losses in stepped.losses)
