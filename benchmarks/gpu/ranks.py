"""Two workers on one trial against one worker with the same steps: two GPUs, or two processes of a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.gpu.sizes import Budget
from benchmarks.packing.sides import VOCABULARY, Pace, Setting, random_base
from trainables.optim.workers import SOLO, World
from trainables.project import PROJECT_ROOT
from trainables.training.curve_recorder import StepRecord
from trainables.training.loop import Hooks, Loop

RANKS = 2
STEPS, SAMPLES = 6, 8  # of the trial; samples a step, of all workers together
# Largest gap of a step's mean loss, in nats, and of its gradient norm, relative. In bf16 other micro-batches round
# otherwise.
GAPS = {"fp32": 1e-4, "bf16": 2e-2}


def two_ranks(shape: str, tokens: int, device: torch.device, folder: Path, budget: Budget) -> dict[str, Any]:
    """Whether LoRA and full fine-tuning give the same curve on two workers as on one."""
    found: dict[str, Any] = {"held": True}
    for method in ("lora", "full"):
        base = random_base(shape, device, method)  # type: ignore[arg-type]
        alone = curve(base, tokens, SOLO, shape)
        shared = _on_two(shape, tokens, method, device, folder, budget)
        gap = max(abs(one["loss"] - other["loss"]) for one, other in zip(alone, shared, strict=True))
        norms = max(abs(one["grad_norm"] / other["grad_norm"] - 1) for one, other in zip(alone, shared, strict=True))
        found |= {f"{method}_loss_gap": gap, f"{method}_grad_norm_gap": norms}
        found["held"] &= max(gap, norms) <= GAPS[base.precision]
        del base
    return found


def curve(base: Any, tokens: int, world: World, shape: str) -> list[dict[str, float]]:
    """Losses and gradient norms of a trial's steps, on this worker's share of every step."""
    setting = Setting(base, tokens, VOCABULARY[shape], Pace(0, STEPS, SAMPLES))
    training = setting.training.model_copy(update={"batch_size": SAMPLES // world.size})
    setting.config = setting.config.model_copy(update={"training": training})
    records: list[StepRecord] = []
    hooks = Hooks(steps=records.extend, checkpoint=lambda step, model: None, should_stop=lambda: False)
    Loop(base, world).train(setting.trial_run(0, setting.lr, hooks, world))
    return [{"loss": record.loss, "grad_norm": record.grad_norm} for record in records]


def _on_two(
    shape: str, tokens: int, method: str, device: torch.device, folder: Path, budget: Budget
) -> list[dict[str, float]]:
    out, meeting = folder / f"ranks-{method}.json", folder / f"meeting-{method}"
    arguments = [shape, str(tokens), method, device.type, str(meeting), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.ranks", str(rank), *arguments], cwd=PROJECT_ROOT, env=environment
        )
        for rank in range(RANKS)
    ]
    try:
        codes = [worker.wait(timeout=max(1.0, budget.left)) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    if any(codes):
        raise RuntimeError(f"workers ended with codes {codes}")
    return json.loads(out.read_text(encoding="utf-8"))


def main(rank: int, shape: str, tokens: int, method: Any, kind: str, meeting: str, out: Path) -> None:
    """One worker of the shared trial; the first writes the curve."""
    device = torch.device(kind, rank) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    found = curve(random_base(shape, device, method), tokens, World(rank, RANKS), shape)
    if rank == 0:
        out.write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:7], Path(sys.argv[7]))
