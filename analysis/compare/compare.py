"""Compares sweeps: the settings that they share, their winners, their training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analysis.compare.data_lines import data_changes
from analysis.output.formats import scored
from analysis.output.leaderboard import CheckpointName, Leaderboard
from analysis.rank.candidates import decision_values
from analysis.rank.leaderboard import leaderboard
from analysis.records.json_files import read_json
from analysis.records.lineage import Kin, parent_of
from analysis.records.locate import place_of
from analysis.records.sweep import Sweep, read_sweep
from analysis.stats.sweep_difference import Winner, difference
from trainables.evaluation.objective import NLL
from trainables.storage.layout import MANIFEST_FILE


@dataclass(frozen=True)
class Entry:
    """A sweep to compare: its records, leaderboard and manifest."""

    sweep: Sweep
    board: Leaderboard
    manifest: dict[str, Any]

    def kin(self) -> Kin:
        """The sweep as a node of the lineage tree."""
        said = scored(self.board, self.board["rows"][0]["objective"]) if self.board["winner"] else "no winner"
        config, manifest = self.sweep.config, self.manifest
        parent = parent_of(config, manifest)
        return Kin(self.sweep.folder, self.sweep.name, manifest.get("sweep_id"), parent, config, said)

    def winner(self) -> Winner:
        """The winner's item losses and the spread between seeds; the sweep must have a winner."""
        pair = self.board["winner"]
        assert pair, "see `incomparable`"
        return self.scores(pair)

    def scores(self, pair: CheckpointName) -> Winner:
        """A ranked checkpoint's item losses and the spread between seeds."""
        separation = self.board["separation"]
        assert separation
        scored = self.sweep.heldout(pair["trial_id"]).by_step[pair["step"]]
        items = {key: item for key, item in scored.items() if key[0] in self.sweep.weights}
        df, spreads = separation["seed_sd_df"], (separation["seed_sd_unblocked"], separation["seed_sd_single"])
        return Winner(
            values=dict(zip(items, decision_values(items, list(items), self.sweep.measure), strict=True)),
            groups={key: item.group for key, item in items.items()},
            # The larger of the two estimates: a difference that seeds could make must not pass as progress.
            seed_sd=max((sd for sd in spreads if sd is not None), default=None),
            seed_df=float("inf") if df is None else df,
        )


def read_entry(folder: str | Path) -> Entry:
    """Reads a sweep and ranks it; a folder that can't be read is a `UserError`."""
    sweep = read_sweep(folder)
    return Entry(sweep, leaderboard(folder), read_json(sweep.folder / MANIFEST_FILE) or {})


def incomparable(first: Entry, second: Entry) -> str | None:
    """Reason why the winners of two sweeps can't be compared; None where they can.

    Both sweeps must have scored the same items of the same files, with the same weights.
    """
    for entry in (first, second):
        if entry.board["winner"] is None:
            return f"{entry.sweep.name} has no winner"
    if first.sweep.measure != second.sweep.measure:
        return (
            f"other metrics decided (objective.metric): {first.sweep.measure.metric} and {second.sweep.measure.metric}"
        )
    if first.sweep.weights != second.sweep.weights:
        return f"their areas or weights differ: {first.sweep.weights} and {second.sweep.weights}"
    for area in first.sweep.weights:
        hashes = [(entry.manifest.get("data_sha256") or {}).get(area) for entry in (first, second)]
        if None in hashes:
            return f"the manifest of {(first, second)[hashes.index(None)].sweep.name} has no hash of area {area}"
        if hashes[0] != hashes[1]:
            return f"area {area} is another file (its sha256 differs)"
    if first.sweep.measure.metric == NLL and _rendering(first) != _rendering(second):
        return "their samples are rendered by other templates (data.template, chat_template, template_args)"
    if first.winner().values.keys() != second.winner().values.keys():
        return "they were scored on different items (heldout.areas.AREA.limit differs?)"
    return None


def _rendering(entry: Entry) -> tuple[Any, ...]:
    # A loss a token is another measure with other tokens around the answer.
    data = entry.sweep.config.get("data") or {}
    return data.get("template"), data.get("template_args") or {}, entry.manifest.get("chat_template_sha256")


def compare(entries: Sequence[Entry]) -> dict[str, Any]:
    """Compares each sweep with the first.

    Returns:
        `sweeps` (a record each) and `differences`: `first`, `second`, and either the figures of
        `analysis.stats.sweep_difference.Difference` with its `verdict`, or the reason under `incomparable`; `shared`,
        the settings that both trained, each with its own difference; and `data`, how the training samples differ.
    """
    first, differences, labels = entries[0], [], _labels(entries)
    for entry in entries[1:]:
        data = data_changes(first.sweep, entry.sweep)
        names: dict[str, Any] = {"first": labels[0], "second": labels[entries.index(entry)], "data": data}
        if reason := incomparable(first, entry):
            differences.append({**names, "incomparable": reason})
            continue
        found = difference(first.winner(), entry.winner(), first.sweep.weights)
        unit = {"metric": first.sweep.measure.metric}
        searched = {"trials": [len(one.sweep.trials) for one in (first, entry)], "shared": shared(first, entry)}
        differences.append({**names, **asdict(found), "verdict": found.verdict, **unit, **searched})
    return {
        "sweeps": [{**_record(entry), "label": name} for entry, name in zip(entries, labels, strict=True)],
        "differences": differences,
    }


def _record(entry: Entry) -> dict[str, Any]:
    board, trials = entry.board, entry.sweep.trials
    best = board["rows"][0] if board["winner"] else None
    gain: Mapping[str, Any] = (board["winner_gain"] or {}) if best else {}
    return {
        "name": entry.sweep.name,
        "folder": place_of(entry.sweep.folder),
        "id": entry.manifest.get("sweep_id"),
        "parent": parent_of(entry.sweep.config, entry.manifest),
        "trials": len(trials),
        "device_seconds": sum(trial.cost.get("device_seconds") or 0.0 for trial in trials),
        "winner": board["winner"],
        "objective": entry.sweep.measure.turned(best["objective"]) if best and best["objective"] is not None else None,
        "metric": entry.sweep.measure.metric,
        "gain": gain.get("corrected"),
        "gain_interval": gain.get("corrected_interval"),
        "tied": len(board["tied"]),
        "params": best["params"] if best else {},
    }


def _labels(entries: Sequence[Entry]) -> list[str]:
    """The sweeps' names, or their places where two have the same name."""
    names = [entry.sweep.name for entry in entries]
    if len(set(names)) == len(names):
        return names
    return [place_of(entry.sweep.folder) for entry in entries]


def shared(first: Entry, second: Entry) -> list[dict[str, Any]]:
    """The ranked settings that both sweeps trained, by peak LR, with the difference of their scores."""
    others = {setting_key(row["params"]): row for row in second.board["rows"] if row["rank"]}
    found = []
    for row in first.board["rows"]:
        other = others.get(setting_key(row["params"])) if row["rank"] else None
        if other is None:
            continue
        pairs: list[CheckpointName] = [
            {"trial_id": one["trial_id"], "step": int(one["step"] or 0)} for one in (row, other)
        ]
        before, after = first.scores(pairs[0]), second.scores(pairs[1])
        moved = difference(before, after, first.sweep.weights)
        scores = [first.sweep.measure.turned(one["objective"] or 0.0) for one in (row, other)]
        seeds = [row["seed"], other["seed"]]
        found.append({"params": row["params"], "trials": pairs, "seeds": seeds, "scores": scores, **asdict(moved)})
    return sorted(found, key=lambda one: float(one["params"].get("peak_lr", 0.0)))


def setting_key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """A setting as a key: equal to six digits is equal."""
    return tuple((name, float(f"{v:.6g}") if isinstance(v, float) else v) for name, v in sorted(params.items()))
