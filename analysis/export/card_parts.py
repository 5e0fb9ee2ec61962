"""Parts of the model card that are read from the sweep's files: LR schedule, data, licence."""

from __future__ import annotations

import json
import re

from analysis.export.checkpoint_choice import BaseModel
from analysis.output.terminal_plots import plot
from analysis.records.sweep import Sweep
from analysis.stats.curve_smoothing import thin
from trainables.storage.layout import MANIFEST_FILE

PLOT_CELLS, PLOT_LINES = 60, 6
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "USE_POLICY.md")


def schedule_plot(sweep: Sweep, trial_id: str) -> str:
    """The LR of each step as it was used, drawn with characters; empty where the trial has no curve."""
    curve = thin(sweep.curve(trial_id)[0], points=2 * PLOT_CELLS)
    if not curve.steps:
        return ""
    high = max(curve.lr)
    labels = [f"{high:.1e}", *[""] * (PLOT_LINES - 2), "0"]
    lines = plot(curve.steps, list(curve.lr), PLOT_CELLS, PLOT_LINES, (0.0, high))
    drawn = [f"{label:>8} │{line}".rstrip() for label, line in zip(labels, lines, strict=True)]
    return "\n".join([*drawn, f"{'step':>8}  {curve.steps[0]} … {curve.steps[-1]}"])


def data_hashes(sweep: Sweep) -> str:
    """The data files' SHA-256 by the sweep's manifest, as a list."""
    written = json.loads((sweep.folder / MANIFEST_FILE).read_text(encoding="utf-8")).get("data_sha256") or {}
    if not written:
        return "The sweep's manifest has no hashes of the data."
    lines = [f"- {'training set' if name == 'train' else name}: `{digest}`" for name, digest in written.items()]
    return "\n".join(["SHA-256 of the files that it was trained and scored on:", "", *lines])


def licence(base: BaseModel) -> str:
    """What the base model's own folder says of its licence; nothing is assumed."""
    card = base.folder / "README.md"
    if card.is_file():
        head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8"), flags=re.S)
        named = re.search(r"^license:\s*(\S+)", head.group(1), flags=re.M) if head else None
        if named:
            return f"Of the base model, by its model card: `{named.group(1)}`. It binds this model too."
    found = [name for name in LICENCE_FILES if (base.folder / name).is_file()]
    if found:
        return f"Of the base model: see its {', '.join(found)}. It binds this model too."
    return "The base model's folder names none: look it up where the model comes from. It binds this model too."
