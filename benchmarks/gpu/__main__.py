"""Parity, speed, checkpoint stalls and peak memory on this machine's GPU, in minutes; one JSON and one Markdown file.

Runs from a checkout, with torch from 2.11 and transformers from 5.17 as they are installed; Ray is not needed. Weights
are random, in real shapes. Parts follow one another by value; what there is no time for is named.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.project import PROJECT_ROOT

if TYPE_CHECKING:
    import torch

    from benchmarks.gpu.sizes import Budget, Cell, Method, Peak, Sizes

STARTED = time.monotonic()  # imports count
NEEDED = ("torch", "transformers", "accelerate", "peft", "pyarrow", "psutil", "pydantic", "jinja2")
NAMED = (*NEEDED, "numpy", "tokenizers", "safetensors", "triton", "bitsandbytes", "ray")
SERVICE = ("ray", "omegaconf", "optuna")  # what a sweep needs beyond `NEEDED`, and of what it shows
PARTS = ("checks", "speed", "memory", "stalls", "ranks", "more", "sweep")
METHODS: tuple[Method, ...] = ("lora", "full")
LEAST_SECONDS = 20.0  # a part is not begun with less left


def main(arguments: list[str] | None = None) -> int:
    """Measures and writes; returns 0, 1 where a check fails, or 2 where packages are missing."""
    options = parse(arguments)
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        names = " ".join(missing)
        print(f"error: benchmarks.gpu: needs {', '.join(NEEDED)}, got no {names}; pip install {names}", file=sys.stderr)
        return 2
    # Before torch is imported, which reads it once. As lanes have it.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    import torch

    from benchmarks.gpu.sizes import DRY, GPU, Budget

    dry = options.dry or not torch.cuda.is_available()
    device = torch.device("cpu") if dry else torch.device("cuda", 0)
    run = Run(Budget(options.minutes, STARTED), DRY if dry else GPU, device, options.out)
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        run.all(options.parts, Path(folder))
    print(run.markdown())
    return 0 if all(found["held"] is not False for found in run.result["checks"].values()) else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=str(__doc__).partition("\n")[0],
        epilog="example: python -m benchmarks.gpu --minutes 5 --out h100.json",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("--out", type=Path, default=Path(".cache/gpu.json"), help="JSON; the tables lie beside it")
    command.add_argument("--minutes", type=float, default=8.0, help="time for all parts")
    command.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run")
    command.add_argument("--dry", action="store_true", help="tiny shapes on CPUs; so without a GPU")
    return command.parse_args(arguments)


class Run:
    """The parts of a run, each written down as soon as it is done.

    Args:
        budget: Its time.
        sizes: What is measured.
        device: Where.
        out: The JSON file.
    """

    def __init__(self, budget: Budget, sizes: Sizes, device: torch.device, out: Path) -> None:
        self.budget, self.sizes, self.device, self.out = budget, sizes, device, out
        self.result: dict[str, Any] = {
            "benchmark": "gpu",
            "date": str(datetime.date.today()),
            "device": device_name(device),
            "versions": versions(),
            "checks": {},
            "speed": [],
            "stalls": [],
            "memory": [],
            "left_out": {},
        }

    def all(self, parts: Sequence[str], folder: Path) -> None:
        """Run parts, those that matter most first."""
        steps = {
            "checks": self.checks,
            "speed": lambda _: self.speed(self.sizes.cells[:1]),
            "memory": self.memory,
            "stalls": self.stalls,
            "ranks": self.ranks,
            "more": lambda _: self.speed(self.sizes.cells[1:]),
            "sweep": self.sweep,
        }
        for name, act in steps.items():
            if name in parts:
                act(folder)

    def checks(self, folder: Path) -> None:
        from benchmarks.gpu import checks
        from benchmarks.gpu.speed import free_memory
        from benchmarks.packing.sides import Pace, Setting, random_base

        pace = Pace(warm_up_steps=0, steps=self.sizes.check_steps, batch_size=8)
        for method in METHODS:
            base = random_base(self.sizes.shape, self.device, method)
            setting = Setting(base, self.sizes.tokens, checks.TOKENS_THAT_OCCUR, pace)
            for check in checks.CHECKS if method == "lora" else (checks.kernel,):
                self.check(f"{check.__name__}, {method}", partial(check, setting))
            if method == "lora":
                self.check("nf4, lora", partial(checks.nf4, setting, folder))
            del base, setting
            free_memory()

    def speed(self, cells: Sequence[Cell]) -> None:
        from benchmarks.gpu import speed

        for cell in cells:

            def act(cell: Cell = cell) -> None:
                self.result["speed"].append(speed.compare(cell, self.sizes, self.device, self.budget))
                speed.free_memory()

            self.part(f"speed of {cell.shape}, {cell.method}, {cell.tokens} tokens a step", act)
        if cells == self.sizes.cells[:1] and self.result["speed"] and self.device.type == "cuda":
            self.result["targets"] = speed.verdict(self.result["speed"][0])

    def memory(self, folder: Path) -> None:
        from benchmarks.gpu.memory import begin_forecast, row

        waiting = [(peak, begin_forecast(peak, self.device, folder)) for peak in self.sizes.peaks]
        for peak, forecasting in waiting:

            def act(peak: Peak = peak, forecasting: subprocess.Popen[str] = forecasting) -> None:
                self.result["memory"].append(row(peak, forecasting, self.device, self.budget))

            self.part(f"memory of {peak.words()}", act)
        for _, forecasting in waiting:
            forecasting.kill()

    def stalls(self, folder: Path) -> None:
        from benchmarks.gpu.speed import checkpoint_stalls

        for method in METHODS:

            def act(method: Method = method) -> None:
                self.result["stalls"].append(checkpoint_stalls(method, self.sizes, self.device, folder))

            self.part(f"checkpoint stalls, {method}", act)

    def ranks(self, folder: Path) -> None:
        from benchmarks.gpu.checks import left_out
        from benchmarks.gpu.ranks import two_ranks

        def act() -> dict[str, Any]:
            if self.device.type == "cuda" and _gpus() < 2:
                return left_out("there is one GPU")
            return two_ranks(self.sizes.shape, self.sizes.tokens, self.device, folder, self.budget)

        self.check("two ranks", act)

    def sweep(self, folder: Path) -> None:
        """A small sweep through lanes."""

        def act() -> dict[str, Any]:
            from benchmarks.gpu.checks import left_out

            if any(importlib.util.find_spec(name) is None for name in SERVICE):
                return left_out(f"it needs {', '.join(SERVICE)}")
            overrides = [f"storage_path={folder}", "name=gpu", "search.trials=2"]
            command = [sys.executable, "-m", "sweeps.run", "conf/smoke.yaml", *overrides]
            seconds = max(1.0, self.budget.left)
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, check=False, cwd=PROJECT_ROOT
            )
            return {"exit_code": done.returncode, "held": done.returncode == 0}

        self.check("a sweep through Ray", act)

    def check(self, name: str, act: Callable[[], dict[str, Any]]) -> None:
        """Run a check; an error is a check that fails."""
        self.part(name, lambda: self.result["checks"].update({name: act()}))

    def part(self, name: str, act: Callable[[], object]) -> None:
        """Run a part if there is time for it, and write down what is known."""
        if self.budget.left < LEAST_SECONDS:
            self.result["left_out"][name] = "there was no time"
            return
        began = self.budget.spent
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the others still run; the error is in the result
            traceback.print_exc()
            self.result["checks"][name] = {"held": False, "error": f"{type(error).__name__}: {error}"}
        print(f"[{self.budget.spent:5.0f} s] {name}: {self.budget.spent - began:.1f} s", file=sys.stderr, flush=True)
        self.result["seconds"] = round(self.budget.spent, 1)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(json.dumps(self.result, indent=2) + "\n", encoding="utf-8")
        self.out.with_suffix(".md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        from benchmarks.gpu.tables import markdown

        return markdown(self.result)


def versions() -> dict[str, str | None]:
    """Releases of Python, CUDA, the driver and the packages; None for what is not there."""
    import torch

    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in NAMED:
        found[name] = importlib.metadata.version(name) if importlib.util.find_spec(name) else None
    found |= {"torch": torch.__version__, "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        found |= {"cudnn": str(torch.backends.cudnn.version()), "driver": _driver()}
    return found


def device_name(device: torch.device) -> str:
    import torch

    if device.type == "cpu":
        return f"dry run on {os.cpu_count()} CPU cores ({platform.machine()})"
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    return f"{_gpus()} x {torch.cuda.get_device_name(device)}, {memory:.1f} GiB"


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.splitlines() or [None])[0]


if __name__ == "__main__":
    sys.exit(main())
