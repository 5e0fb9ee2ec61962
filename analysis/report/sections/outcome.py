"""The first screen: the best setting, what it brought, warnings, what to copy, the loss over LR and training."""

from __future__ import annotations

import math
import shlex

from analysis.output.board_figures import counted
from analysis.output.end_screen import duration
from analysis.output.formats import cost_words, number
from analysis.output.verdict import Line, summary
from analysis.report.elements.blocks import Block, Copies, Grid, Points, Section, Text, Tile, Tiles
from analysis.report.elements.material import Material
from analysis.report.sections import checkpoints, space
from trainables.storage.working_copy import place_of

SHOWN_WARNINGS = 4


def about(material: Material) -> str:
    """The sweep in a line: model, data, trials, date, time, cost."""
    known, parts = material.board.get("about"), []
    if known:
        method = f"LoRA r={known['lora_r']}" if known["lora_r"] else known["method"]
        parts += [known["model"], "full fine-tuning" if method == "full" else method]
        data = [f"{known[key]:,} {key}" for key in ("samples", "steps") if known[key]]
        parts.append(", ".join(data))
    parts.append(counted(material.board))
    date = str((material.manifest or {}).get("ended") or "")[:10]
    parts += [date, duration(known["wall_seconds"]) if known and known["wall_seconds"] else ""]
    hours = material.device_hours
    parts.append("" if hours is None else f"{hours:.2f} device-hours")
    return " · ".join(filter(None, parts))


def outcome(material: Material) -> Section:
    lines = summary(material.board)
    blocks: list[Block] = [Tiles([_tile(line) for line in lines])]
    warnings = [one["reason"] for one in (material.board.get("advice") or [])[:SHOWN_WARNINGS]]
    if warnings:
        blocks.append(Points([("", text) for text in warnings], alarm=True))
    if material.board["winner"]:
        folder = shlex.quote(place_of(material.sweep.folder))
        params = material.board["rows"][0]["params"]
        blocks.append(
            Copies(
                [
                    ("export command", f"python -m analysis.export {folder} --to best"),
                    ("next-sweep command", f"python -m analysis.suggest {folder} --to next.yaml"),
                    ("best hyper-parameters", ", ".join(f"{name}: {number(params[name])}" for name in params)),
                ]
            )
        )
        charts = [*space.first_chart(material), *checkpoints.first_chart(material)]
        if charts:
            blocks.append(Grid(charts))
    return Section("outcome", "Outcome", blocks)


def cost_sentence(material: Material) -> str:
    """Number of trials by state, and their cost."""
    seconds = sum(trial.cost.get("device_seconds") or 0.0 for trial in material.sweep.trials)
    hours, trained = material.device_hours, f"{seconds / 3600:.2f} device-hours in training and evaluation"
    price = (material.sweep.config.get("resources") or {}).get("price_per_device_hour")
    whole = trained if hours is None else f"{cost_words(hours, price)} in all, {trained}"
    return f"{counted(material.board)[:1].upper()}{counted(material.board)[1:]}. Cost: {whole}."


def next_steps(material: Material) -> Section:
    points = []
    for advice in material.board.get("advice") or []:
        values = ", ".join(f"{key} = {value}" for key, value in advice["changes"].items())
        points.append((values, advice["reason"]))
    if not points:
        settled = "At least 8 trials were run, the best LR lies between others, and nothing asks for another sweep."
        return Section("next", "Next sweep", [Text(settled)])
    place = shlex.quote(place_of(material.sweep.folder))
    note = f"As a config that runs: python -m analysis.suggest {place} --to next.yaml"
    return Section("next", "Next sweep", [Points(points), Text(note, "note")])


def _tile(line: Line) -> Tile:
    notes = [note for note in line.notes or (line.text,) if note]
    if line.label == "Held-out loss" and " → " in line.value:
        before, now = (float(text) for text in line.value.split(" → "))
        notes.append(f"perplexity {math.exp(before):.3g} → {math.exp(now):.3g}")
    return Tile(line.label, line.value, notes, line.alarm)
