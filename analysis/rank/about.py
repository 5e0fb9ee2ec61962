"""What a leaderboard's reader needs to know of the sweep itself: model, data, range, time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.advice.observe import searched
from analysis.output.leaderboard import About
from analysis.records.json_files import read_json_lines
from analysis.records.sweep import Sweep
from trainables.storage.layout import LEDGER_FILE


def about(sweep: Sweep, plan: Mapping[str, Any] | None) -> About:
    """Describes a sweep; figures that its files don't hold are None."""
    model = sweep.config.get("model")
    model = model if isinstance(model, dict) else {}
    lora = model.get("lora") if model.get("method") == "lora" else None
    train = (plan or {}).get("train") or {}
    return {
        "model": Path(str(model.get("name", ""))).name,
        "method": str(model.get("method", "")),
        "lora_r": lora.get("r") if isinstance(lora, dict) else None,
        "samples": train.get("samples"),
        "steps": (plan or {}).get("steps"),
        "space": {name: [span.low, span.high] for name, span in searched(sweep.config).items()},
        "wall_seconds": _wall_seconds(sweep.folder),
    }


def _wall_seconds(folder: Path) -> float | None:
    """The time for which a driver ran, over all starts; None where the ledger doesn't say."""
    times = defaultdict(list)
    for _, event in read_json_lines(folder / LEDGER_FILE)[0]:
        if isinstance(event.get("unix_seconds"), int | float):
            times[event.get("driver_epoch")].append(float(event["unix_seconds"]))
    return sum(max(found) - min(found) for found in times.values()) or None
