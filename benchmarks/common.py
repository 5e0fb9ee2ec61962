"""Shared parts of the benchmarks: preparation of data and model, the machine, progress, output."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.driver.context import lane_settings
from sweeps.plan.plan import make_plan
from trainables.config.trial_spec import LaneConfig

PROJECT = Path(__file__).resolve().parent.parent
_STARTED = time.monotonic()


def prepare(config_path: str, overrides: list[str], threads: int) -> tuple[SweepConfig, LaneConfig]:
    """Plans a sweep (model resolved, data tokenized); returns its config and its lanes' config.

    Args:
        config_path: A config of the project.
        overrides: `key=value` texts, with `storage_path` and `name` among them.
        threads: CPU threads of every side.
    """
    config = load_config(config_path, overrides)
    config.folder.mkdir(parents=True)
    plan = make_plan(config, config.folder)
    return config, lane_settings(config, plan, threads)


def parser(module: str, description: str, example: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=description,
        epilog=f"example: python -m benchmarks.{module} {example}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def environment(threads: int) -> dict[str, str]:
    """The environment of every side's process: project on the path, W&B offline, equal thread counts."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": str(threads),  # torch reads it at import
        "WANDB_MODE": "offline",
        "RAY_USAGE_STATS_ENABLED": "0",  # no request to a server within a measured start
        "TOKENIZERS_PARALLELISM": "false",  # its threads would come on top of --threads
    }


def machine() -> dict[str, Any]:
    """The machine behind the figures."""
    import torch  # not at the top: benchmarks without torch start faster

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    load = round(os.getloadavg()[0], 2)
    return {"cpus": os.cpu_count(), "architecture": platform.machine(), "gpu": gpu, "load_before": load}


def say(text: str) -> None:
    """Prints a line of progress to stderr."""
    print(f"[{time.monotonic() - _STARTED:5.0f} s] {text}", file=sys.stderr, flush=True)


def rounded(values: Iterable[float], digits: int = 3) -> list[float]:
    return [round(float(value), digits) for value in values]


def print_result(result: dict[str, Any]) -> None:
    print(json.dumps(result, indent=2))
