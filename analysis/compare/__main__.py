"""`python -m analysis.compare DIR DIR…`: sweeps side by side: shared settings, winners, data, lineage."""

from __future__ import annotations

import json
import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.cli import Parser
from analysis.compare.compare import compare, read_entry
from analysis.compare.data_lines import data_words
from analysis.output.formats import PARAM_LABELS, UNKNOWN, change, labeled, nats, ordered, setting_value
from analysis.output.leaderboard_table import Column, encodable, print_table
from analysis.records.lineage import full_place, tree
from analysis.records.locate import opened
from trainables.errors import UserError
from trainables.evaluation.objective import Measure

EXAMPLE = """example:
  python -m analysis.compare outputs/demo outputs/demo-2
  python -m analysis.compare outputs/demo outputs/demo-2 --json

exit codes: 0 done, 2 wrong arguments or files"""
WIDTH = 80


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
        _print(
            found, list(tree([entry.kin() for entry in entries])), Console(highlight=False, markup=False, emoji=False)
        )


def _print(found: dict[str, Any], tree: list[str], console: Console) -> None:
    def say(text: str, style: str = "", indent: int = 0) -> None:
        margins = {"initial_indent": " " * indent, "subsequent_indent": " " * (indent + 2)}
        for line in textwrap.wrap(text, min(console.width, WIDTH), break_on_hyphens=False, **margins):  # type: ignore[arg-type]
            console.print(Text(encodable(line, console), style=style), soft_wrap=True)

    for one in found["differences"]:
        _print_shared(one, console, say)
    print_table(console, "Best of each sweep", _winners(found["sweeps"]), [""] * len(found["sweeps"]))
    for one in found["differences"]:
        for sentence in difference_words(one):
            say(sentence)
        if one["data"]:
            say(data_words(one["data"], one["first"], one["second"]))
    say("lineage:", "dim")
    for line in tree:
        console.print(Text(f"  {line}"), soft_wrap=True)


def _print_shared(one: dict[str, Any], console: Console, say: Any) -> None:
    shared = one.get("shared") or []
    if not shared:
        say(f"{one['first']} and {one['second']} share no setting, so no setting can be compared with itself.")
        return
    names = ordered(shared[0]["params"])
    columns = [
        Column(PARAM_LABELS.get(name, name), [setting_value(name, pair["params"][name]) for pair in shared])
        for name in names
    ]
    columns += [
        Column(one[side], [nats(pair["scores"][k]) for pair in shared]) for k, side in enumerate(("first", "second"))
    ]
    columns.append(Column("difference", [_moved(one, pair) for pair in shared]))
    label = Measure(one["metric"]).label
    print_table(console, f"Same settings, {label}", columns, [""] * len(shared))
    if any(pair["seeds"][0] != pair["seeds"][1] for pair in shared):
        say("Their seeds differ, so a part of the difference is the spread between seeds.", "dim")
    console.print()


def _moved(one: dict[str, Any], pair: dict[str, Any]) -> str:
    sign = -1.0 if Measure(one["metric"]).higher_is_better else 1.0
    interval = None if pair["low"] is None else sorted((sign * pair["low"], sign * pair["high"]))
    return change(sign * pair["value"], interval, 3).replace(", 95 % CI", " CI")


def _winners(sweeps: list[dict[str, Any]]) -> list[Column]:
    names = ordered({name: None for one in sweeps for name in one["params"]})  # the peak LR, first, stands by the trial
    metrics = sorted({Measure(one["metric"]).label for one in sweeps})
    best = [labeled(one["winner"]["trial_id"], one["params"]) if one["winner"] else "none" for one in sweeps]
    return [
        Column("sweep", [one["label"] for one in sweeps], words=True),
        Column("trials", [str(one["trials"]) for one in sweeps]),
        Column("best", best, words=True),
        Column("/\n".join(metrics), [nats(one["objective"]) for one in sweeps]),
        Column("gain\nvs base", [nats(one["gain"]) for one in sweeps]),
        Column("tied", [str(one["tied"]) for one in sweeps]),
        *(
            Column(PARAM_LABELS.get(n, n), [_value(n, one["params"]) for one in sweeps])
            for n in names
            if n != "peak_lr"
        ),
    ]


def _value(name: str, params: dict[str, Any]) -> str:
    return setting_value(name, params[name]) if name in params else UNKNOWN


def difference_words(one: dict[str, Any]) -> Iterator[str]:
    """What one of `compare`'s differences says of the two sweeps' best checkpoints."""
    if "incomparable" in one:
        yield f"{one['second']} can't be compared with {one['first']}: {one['incomparable']}."
        return
    measure, sign = Measure(one["metric"]), -1.0 if Measure(one["metric"]).higher_is_better else 1.0
    interval = None if one["low"] is None else sorted((sign * one["low"], sign * one["high"]))
    joint = "from" if one["verdict"].startswith("not") else "than"
    yield f"The best of {one['second']} is {one['verdict']} {joint} the best of {one['first']}."
    sides = f"{one['second']} − {one['first']}"
    moved = change(sign * one["value"], interval, 3)
    yield f"Difference in {measure.label} ({sides}): {moved}, over {one['items']} items."
    areas = ", ".join(f"{area} {change(sign * delta, None, 3)}" for area, delta in sorted(one["areas"].items()))
    yield f"By area: {areas}."
    if interval is None:
        yield "No interval: the spread between seeds was not measured."
    first, second = one["trials"]
    if first != second:
        yield f"{first} against {second} trials: the best of more trials is better by chance alone."


if __name__ == "__main__":
    sys.exit(main())
