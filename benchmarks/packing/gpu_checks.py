"""Whether packed trials on a GPU keep their promises: run this before `benchmarks.packing.gpu` on a new kind of GPU.

A JSON line for each check, the last says whether all hold. Random weights; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.clock import Clock
from benchmarks.packing.sides import LORA, LR, SHAPES, Pace, Setting, random_base
from trainables.models.forward_plan import ForwardPlan
from trainables.models.token_losses import token_losses
from trainables.packing.pack import Pack, Slot, Stepped
from trainables.training.curve_recorder import StepRecord

# Few, so that there is something to learn: how often each occurs.
TOKENS_THAT_OCCUR = 250

Check = Callable[[Setting], dict[str, Any]]


def forms(setting: Setting) -> dict[str, Any]:
    """Flat rows are used and give the losses of padded batches up to rounding."""
    model = setting.base.untouched()
    plan, batch = ForwardPlan.of(model), setting.samples.batch(range(8)).to(next(model.parameters()).device)
    with torch.no_grad():
        flat = token_losses(model, batch)
        replace(plan, longest_flat=0).attach(model)  # type: ignore[arg-type]
        padded = token_losses(model, batch)
    plan.attach(model)  # type: ignore[arg-type]
    gap = (flat - padded).abs().mean().item()
    return {"longest_flat": plan.longest_flat, "mean_gap": gap, "held": plan.longest_flat > 0 and gap < 0.02}


def neighbours(setting: Setting) -> dict[str, Any]:
    """A slot of NaN changes no other slot, though 0 x NaN is NaN, in attention's masks too."""

    def run(lr: float) -> tuple[list[float], list[float]]:
        pack, sums = Pack(setting.base), []
        slots = [joined(pack, setting, seed) for seed in range(3)]
        for step in range(4):
            lrs = (LR, lr, LR)
            parts = [setting.part(slot.seed, step, own) for slot, own in zip(slots, lrs, strict=True)]
            sums.append([total(stepped) for stepped in pack.step(parts)])
        pack.close()
        return [first for first, _, last in sums for first in (first, last)], [middle for _, middle, _ in sums]

    whole, _ = run(LR)
    found, broken = run(1e30)
    gap = max(abs(a - b) for a, b in zip(whole, found, strict=True))
    return {"broken": broken[-1], "largest_gap": gap, "held": broken[-1] != broken[-1] and gap <= 1e-3 * max(whole)}


def waits(setting: Setting) -> dict[str, Any]:
    """No step synchronizes with the host: torch raises at one that would."""
    pack = Pack(setting.base)
    slots = [joined(pack, setting, seed) for seed in range(4)]
    for step in range(2):
        pack.step([setting.part(slot.seed, step, LR) for slot in slots])
    parts = [setting.part(slot.seed, 2, LR) for slot in slots]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pack.step(parts)
        stopped = None
    except RuntimeError as error:
        stopped = str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
        pack.close()
    return {"stopped_by": stopped, "held": stopped is None}


def memory(setting: Setting) -> dict[str, Any]:
    """Running out of memory raises `torch.OutOfMemoryError`, changes no slot, and the next step works."""
    pack = Pack(setting.base)
    slots = [joined(pack, setting, seed) for seed in range(4)]
    parts = [setting.part(slot.seed, 0, LR) for slot in slots]
    torch.cuda.empty_cache()
    hog = torch.empty(max(1, torch.cuda.mem_get_info()[0] - 2**29), dtype=torch.uint8, device="cuda")
    try:
        pack.step(parts)
        raised = "nothing"
    except torch.OutOfMemoryError as error:
        raised = type(error).__name__
    del hog
    steps = [slot.steps for slot in slots]
    losses = [total(stepped) for stepped in pack.step(parts)]
    pack.close()
    good = raised == "OutOfMemoryError" and steps == [0] * 4 and all(loss == loss for loss in losses)
    return {"raised": raised, "steps": steps, "held": good}


def parity(setting: Setting) -> dict[str, Any]:
    """Final losses of packed and of solo trials differ by less than a tenth of the seeds' spread."""
    steps, seeds = setting.pace.warm_up_steps + setting.pace.steps, range(4)
    solo = []
    for seed in seeds:
        records: list[StepRecord] = []
        setting.solo(Clock(0), seed, records)
        solo.append(statistics.mean(record.loss for record in records[-5:]))
    pack = Pack(setting.base)
    slots = [joined(pack, setting, seed) for seed in seeds]
    losses = []
    for step in range(steps):
        parts = [setting.part(slot.seed, step, LR) for slot in slots]
        stepped = pack.step(parts)
        losses.append([total(one) / part.step_tokens for one, part in zip(stepped, parts, strict=True)])
    pack.close()
    packed = [statistics.mean(row[place] for row in losses[-5:]) for place in seeds]
    gap = abs(statistics.mean(a - b for a, b in zip(packed, solo, strict=True)))
    spread = statistics.stdev(solo)
    return {"first": losses[0], "solo": solo, "packed": packed, "gap": gap, "sd": spread, "held": gap < spread / 10}


def load(setting: Setting) -> dict[str, Any]:
    """Profiles a step of 8 slots; holds always."""
    pack = Pack(setting.base)
    slots = [joined(pack, setting, 0) for _ in range(8)]

    def step(number: int) -> None:
        pack.step([setting.part(slot.seed, number, LR) for slot in slots])

    for number in range(3):
        step(number)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for number in range(3, 6):
        step(number)
    host = time.perf_counter() - started
    torch.cuda.synchronize()
    wall = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        step(6)
        torch.cuda.synchronize()
    pack.close()
    kernels = [event for event in seen.key_averages() if event.device_type.name == "CUDA"]
    busiest = sorted(kernels, key=lambda event: -event.self_device_time_total)[:12]
    return {
        "step_ms": 1e3 * wall / 3,
        "host_ms": 1e3 * host / 3,
        "gpu_busy_ms": sum(event.self_device_time_total for event in kernels) / 1e3,
        "kernels": sum(event.count for event in kernels),
        "busiest": {event.key[:60]: round(event.self_device_time_total / 1e3, 2) for event in busiest},
        "held": True,
    }


def joined(pack: Pack, setting: Setting, seed: int) -> Slot:
    return pack.join(LORA, setting.training, seed)


def total(stepped: Stepped) -> float:
    return sum(losses.sums.sum().item() for losses in stepped.losses)


EVERYWHERE: tuple[Check, ...] = (forms, neighbours, parity)
ON_GPUS: tuple[Check, ...] = (waits, memory, load)


def main() -> None:
    """Runs the checks; exits with 1 if one fails."""
    command = argparse.ArgumentParser(prog="python -m benchmarks.packing.gpu_checks", description=__doc__)
    command.add_argument("--model", choices=list(SHAPES), default="0.5B", help="shape of the random weights")
    command.add_argument("--tokens", type=int, default=1024, help="tokens a step and trial")
    options = command.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = random_base(options.model, device)
    setting = Setting(base, options.tokens, TOKENS_THAT_OCCUR, Pace(warm_up_steps=0, steps=30, batch_size=8))
    held = []
    for check in EVERYWHERE + (ON_GPUS if device.type == "cuda" else ()):
        found = check(setting)
        held.append(found["held"])
        print(json.dumps({"check": check.__name__, "precision": base.precision, **found}), flush=True)
    print(json.dumps({"all_held": all(held)}))
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
