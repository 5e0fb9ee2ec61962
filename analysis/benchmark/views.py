"""A benchmark's results in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.benchmark.results import NAMES, Results
from analysis.output.formats import UNKNOWN, change, nats, negated, share, with_interval
from analysis.output.leaderboard_table import Column, encodable, print_table
from analysis.stats.bootstrap import FEW_CLUSTERS
from analysis.stats.multiple_comparisons import ALPHA
from trainables.evaluation.objective import NLL

WIDTH = 100


def print_table_of(console: Console, full_name: str, results: Results, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the models, best first, and in sentences what the table rests on.

    Args:
        console: Where to print.
        full_name: The benchmark's, as a title.
        results: The comparison.
        rows: As from `table_rows`.
    """
    areas = results.design.areas
    ranked = [row for row in rows if row["rank"]]
    name = NAMES.get(results.metric, results.metric)
    columns = [
        Column("rank", [f"{row['rank']}" for row in ranked]),
        Column("model", [row["model"] for row in ranked], words=True),
        Column(name, [nats(row["score"]) for row in ranked]),
        Column("worse than the first by", [_behind(row) for row in ranked]),
        Column("", ["tied with the first" if row["tied"] and row["rank"] > 1 else "" for row in ranked], words=True),
        Column("exact match", [share(row["exact_match"]) for row in ranked]),
        Column(f"first on,\nof {len(results.keys)}", [str(row["first_on"]) for row in ranked]),
    ]
    if len(areas) > 1:
        columns += [Column(area, [nats(row["areas"][area]) for row in ranked]) for area in areas]
    print_table(console, full_name, columns, ["bold" if row["rank"] == 1 else "" for row in ranked])
    for sentence in _notes(results, rows):
        say(console, sentence)


def _behind(row: Mapping[str, Any]) -> str:
    return UNKNOWN if row["rank"] == 1 else with_interval(row["behind"], row["behind_interval"])


def _notes(results: Results, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    ranked = [row for row in rows if row["rank"]]
    tied = [row["model"] for row in ranked[1:] if row["tied"]]
    first = ranked[0]["model"]
    if len(ranked) > 1:
        yield f"{first} is first; {f'{len(tied)} tied with it' if tied else 'no other model is tied with it'}."
        level = f"{100 * (1 - ALPHA):.0f} %"
        yield (
            f"Intervals are paired over items and hold for all pairs of models together ({level}); they say nothing of "
            "other training seeds."
        )
    if results.metric != NLL and any(model.tokens != results.ranked[0].tokens for model in results.ranked):
        yield "The models read the items as other tokens: losses a token don't compare, bits a byte do."
    if results.metric == NLL and any(model.tokens != results.ranked[0].tokens for model in results.ranked):
        yield "Careful: the models read the items as other tokens, so losses a token don't compare."
    if len(precisions := sorted({model.entry["precision"] for model in results.ranked})) > 1:
        yield f"The models were scored in different precisions: {', '.join(precisions)}."
    if (clusters := sum(results.design.clusters)) < FEW_CLUSTERS:
        yield f"Careful: {clusters} independent items are few; the intervals are too narrow."
    for row in rows:
        if row["defect"]:
            yield f"{row['model']} has no rank: {row['defect']}."
        elif row.get("learnt_heldout"):
            yield f"Careful: {row['model']} was trained on the held-out items of its sweep (winner.retrain)."


def print_history(console: Console, lines: Sequence[Mapping[str, Any]], lower: bool) -> None:
    """Prints the best so far over sweeps; nothing for fewer than two sweeps."""
    if len(lines) < 2:
        return
    console.print(Text("\nBest so far, sweep by sweep", style="bold"))
    for line in lines:
        moved, interval = line["change"], line["change_interval"]
        if not lower and moved is not None:
            moved, interval = -moved, negated(interval)
        verdict = "" if moved is None else f", {line['verdict']} ({change(moved, interval, 3).replace('95 % ', '')})"
        say(console, f"{(line['started'] or UNKNOWN)[:16]}  {line['model']}: {nats(line['score'])}{verdict}")


def print_pins(console: Console, key: tuple[str, str], lines: Sequence[Mapping[str, Any]]) -> None:
    """Prints what each model makes of one item."""
    console.print(Text(encodable(f"\n{'/'.join(key)}", console), style="bold"))
    for line in lines:
        said = "" if line["answer"] is None else f": {_quoted(line['answer'])}"
        say(console, f"{line['model']}{said}; {line['words']}")


def print_answers(console: Console, items: Sequence[Mapping[str, Any]], most: int) -> None:
    """Prints the answers of the models to the first items, side by side."""
    for item in items[:most]:
        console.print(Text(encodable(f"\n{item['area']}/{item['id']}", console), style="bold"))
        say(console, f"asked: {_quoted(item['prompt'])}")
        say(console, f"reference: {_quoted(item['reference'])}")
        for one in item["answers"]:
            mark = UNKNOWN if one["exact_match"] is None else "right" if one["exact_match"] == 1 else "wrong"
            answer = UNKNOWN if one["answer"] is None else _quoted(one["answer"])
            say(console, f"{one['model']} ({mark}, loss {nats(one['nll'])}): {answer}")
    if len(items) > most:
        console.print(Text(f"\n{len(items) - most} more items: --items N"))


def say(console: Console, text: str) -> None:
    """Prints a line, wrapped."""
    for line in textwrap.wrap(text, min(console.width, WIDTH), subsequent_indent="  ", break_on_hyphens=False):
        console.print(Text(encodable(line, console)), soft_wrap=True)


def _quoted(text: str) -> str:
    # A model's answer may hold anything, also what moves a terminal's cursor.
    plain = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
    return plain if len(plain) <= 300 else f"{plain[:300]}…"
