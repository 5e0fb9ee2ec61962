"""`python -m analysis.compare DIR DIR…`: sweeps side by side, how their winners differ, and their lineage."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.cli import Parser
from analysis.output.formats import UNKNOWN, nats, number, scored, with_interval
from analysis.output.leaderboard import Leaderboard
from analysis.rank.candidates import decision_values
from analysis.rank.leaderboard import leaderboard
from analysis.records.json_files import read_json
from analysis.records.lineage import Kin, full_place, parent_of, tree
from analysis.records.locate import opened, place_of
from analysis.records.sweep import Sweep, read_sweep
from analysis.stats.sweep_difference import Winner, difference
from trainables.errors import UserError
from trainables.evaluation.objective import LABELS, NLL, Measure
from trainables.storage.layout import MANIFEST_FILE

EXAMPLE = """example:
  python -m analysis.compare outputs/demo outputs/demo-2
  python -m analysis.compare outputs/demo outputs/demo-2 --json

exit codes: 0 done, 2 wrong arguments or files"""


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
        pair, separation = self.board["winner"], self.board["separation"]
        assert pair, "see `incomparable`"
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
        `analysis.stats.sweep_difference.Difference` with its `verdict`, or the reason under `incomparable`.
    """
    first, differences = entries[0], []
    for entry in entries[1:]:
        names = {"first": first.sweep.name, "second": entry.sweep.name}
        if reason := incomparable(first, entry):
            differences.append({**names, "incomparable": reason})
            continue
        found = difference(first.winner(), entry.winner(), first.sweep.weights)
        unit = {"metric": first.sweep.measure.metric}
        differences.append({**names, **asdict(found), "verdict": found.verdict, **unit})
    return {"sweeps": [_record(entry) for entry in entries], "differences": differences}


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.compare", "Sweeps side by side, and how their winners differ.", EXAMPLE)
    parser.add_argument(
        "folders", metavar="DIR", nargs="+", help="folders or URLs of sweeps; the first is compared with"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")
    return parser.run(_compare, arguments)


def _compare(given: Namespace) -> None:
    places = [full_place(folder) for folder in given.folders]
    if len(places) < 2 or len(set(places)) < len(places):
        raise UserError("DIR", "must be two different sweeps or more", " ".join(given.folders), "name them all once")
    with ExitStack() as stack:
        entries = [read_entry(stack.enter_context(opened(folder))) for folder in given.folders]
    found = compare(entries)
    if given.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        _print(found, list(tree([entry.kin() for entry in entries])))


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


def _print(found: dict[str, Any], tree: list[str]) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    names = sorted({name for one in found["sweeps"] for name in one["params"]}, key=lambda n: (n != "peak_lr", n))
    metrics = "/".join(sorted({LABELS.get(one["metric"], one["metric"]) for one in found["sweeps"]}))
    for name in ("sweep", "trials", "winner", metrics, "gain (corrected)", "tied", *names, "device s"):
        table.add_column(name, justify="left" if name in ("sweep", "winner") else "right", overflow="fold")
    for one in found["sweeps"]:
        winner = one["winner"]["trial_id"] if one["winner"] else "none"
        figures = [nats(one["objective"]), with_interval(one["gain"], one["gain_interval"]), str(one["tied"])]
        params = [number(one["params"].get(name)) if name in one["params"] else UNKNOWN for name in names]
        table.add_row(one["name"], str(one["trials"]), winner, *figures, *params, f"{one['device_seconds']:.0f}")
    console.print(table)
    for one in found["differences"]:
        console.print(Text(difference_words(one), style="bold"), soft_wrap=True)
    console.print(Text("lineage:", style="dim"))
    for line in tree:
        console.print(Text(f"  {line}"), soft_wrap=True)


def difference_words(one: dict[str, Any]) -> str:
    """One of `compare`'s differences as a sentence."""
    if "incomparable" in one:
        return f"{one['second']} can't be compared with {one['first']}: {one['incomparable']}"
    interval = None if one["low"] is None else [one["low"], one["high"]]
    areas = ", ".join(f"{area} {delta:+.3f}" for area, delta in sorted(one["areas"].items()))
    joint = "from" if one["verdict"].startswith("not") else "than"
    measure = Measure(one["metric"])
    less = f"1 - {measure.label}" if measure.higher_is_better else "loss"
    return (
        f"{one['second']} is {one['verdict']} {joint} {one['first']}: its "
        f"winner's {less} less the first's is {with_interval(one['value'], interval)} {measure.unit}, over "
        f"{one['items']} items and the seeds of both ({areas}); each was picked as the lowest of its sweep"
    )


if __name__ == "__main__":
    sys.exit(main())
