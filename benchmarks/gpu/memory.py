"""Peak memory of real trials against the plan's forecast, which is made without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.sizes import Budget, Peak
from benchmarks.gpu.speed import OUT_OF_MEMORY, free_memory
from benchmarks.packing.sides import LORA, VOCABULARY, Pace, Samples, Setting, model_config, random_base
from trainables.config.memory_request import MemoryRequest
from trainables.config.sections import ModelConfig, TrainingConfig
from trainables.evaluation.heldout import item_losses
from trainables.models.base_model import resolve_precision
from trainables.project import PROJECT_ROOT
from trainables.training.loop import Hooks

SCORED_TOKENS = 4096  # held-out tokens scored at once, more than the longest sample
GIB = 2**30


def begin_forecast(peak: Peak, device: torch.device, folder: Path) -> subprocess.Popen[str]:
    """Start a forecast, as the plan makes it; several run side by side."""
    place = folder / peak.shape
    model_config(peak.shape).save_pretrained(place)
    request = MemoryRequest(
        model_path=str(place),
        model=ModelConfig(name="random", method=peak.method, lora=LORA),
        training=TrainingConfig(batch_size=peak.samples),
        precision=resolve_precision("auto", device),
        slots=peak.slots,
        samples=peak.samples,
        sample_tokens=peak.tokens,
        label_share=0.5,
        scored_tokens=SCORED_TOKENS,
        prompts=0,
        prompt_tokens=1,
        answer_tokens=1,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "trainables.training.memory_run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert process.stdin is not None
    process.stdin.write(request.model_dump_json())
    process.stdin.close()
    process.stdin = None  # `communicate` would flush it
    return process


def row(peak: Peak, forecasting: subprocess.Popen[str], device: torch.device, budget: Budget) -> dict[str, Any]:
    """A trial's peak and its forecast.

    Raises:
        RuntimeError: The forecast failed.
    """
    try:
        out, errors = forecasting.communicate(timeout=max(1.0, budget.left))
    finally:
        forecasting.kill()
    if forecasting.returncode != 0:
        raise RuntimeError(f"the forecast failed: {errors.strip().splitlines()[-1:]}")
    forecast = max(json.loads(out.splitlines()[-1])["peak_bytes"].values())
    measured = _measure(peak, device, forecast) if device.type == "cuda" else {"measured": "no GPU"}
    return {**peak._asdict(), "trial": peak.words(), "forecast_gib": round(forecast / GIB, 3), **measured}


def _measure(peak: Peak, device: torch.device, forecast: int) -> dict[str, Any]:
    """Train all slots for three steps and score; peaks as the allocator counts them."""
    if forecast > 0.9 * torch.cuda.mem_get_info(device)[1]:
        return {"measured": "larger than this card"}
    try:
        measured, reserved = _train(peak, device)
    except torch.OutOfMemoryError:
        return {"measured": OUT_OF_MEMORY}
    finally:
        free_memory()
    free, total = torch.cuda.mem_get_info(device)
    return {
        "measured_gib": round(measured / GIB, 3),
        "measured_over_forecast": round(measured / forecast, 3),
        "reserved_gib": round(reserved / GIB, 3),
        "beside_the_allocator_gib": round((total - free - torch.cuda.memory_reserved(device)) / GIB, 3),
    }


def _train(peak: Peak, device: torch.device) -> tuple[int, int]:
    vocabulary = VOCABULARY[peak.shape]
    heldout: Any = Samples(max(1, SCORED_TOKENS // peak.tokens), peak.tokens, vocabulary, equal=True)
    base = random_base(peak.shape, device, peak.method)
    pace = Pace(warm_up_steps=0, steps=3, batch_size=peak.samples)
    setting = Setting(base, peak.samples * peak.tokens, vocabulary, pace, equal=True)

    def score(_: int, model: nn.Module) -> None:
        item_losses(model, heldout, SCORED_TOKENS)

    hooks = Hooks(steps=lambda records: None, checkpoint=score, should_stop=lambda: False)
    free_memory()
    torch.cuda.reset_peak_memory_stats(device)
    setting.loop.set_slots(peak.slots)
    for seed in range(peak.slots):
        setting.loop.join(setting.trial_run(seed, setting.lr, hooks))
    while not setting.loop.is_empty:
        for end in setting.loop.step():
            if end.error:
                raise end.error
    return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
