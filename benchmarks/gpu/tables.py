"""The results of `benchmarks.gpu` as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def markdown(result: dict[str, Any]) -> str:
    """Tables of checks, speeds, stalls and memory; what was not measured is said."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    parts = [f"{result['device']}, {result['date']}: {versions}."]
    parts += [_checks(result["checks"])]
    for title, rows in (("speed", _speed), ("stalls", _stalls), ("memory", _memory)):
        if result.get(title):
            parts.append(rows(result[title]))
    parts += [f"Left out: {name}, because {why}." for name, why in result["left_out"].items()]
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(value) for value in line) + " |" for line in lines)


def _checks(checks: dict[str, dict[str, Any]]) -> str:
    words = {True: "holds", False: "FAILS", None: "left out"}
    rows = []
    for name, found in checks.items():
        figures = ", ".join(f"{key} {_number(value)}" for key, value in found.items() if key != "held")
        rows.append([name, words[found["held"]], figures])
    return _table(["check", "", "figures"], rows)


def _speed(cells: list[dict[str, Any]]) -> str:
    rows = []
    for cell in cells:
        what = f"{cell['shape']}, {cell['method']}, {cell['tokens']} tokens a step, {cell['precision']}"
        for side, found in cell["sides"].items():
            if isinstance(found, str):
                rows.append([what, side, found, *[""] * 5])
                continue
            over = [_number(found.get(f"over_{name}", "")) for name in ("trainer", "solo")]
            samples = 1e3 * cell["samples_a_step"] / found["step_ms"]
            peak = _number(found["peak_gib"])
            rows.append([what, side, round(found["tokens_a_second"]), _number(samples), peak, *over, cell["rounds"]])
    heads = ["model", "side", "tokens/s", "steps' samples/s", "peak GiB", "over Trainer", "over one alone", "rounds"]
    return _table(heads, rows)


def _stalls(stalls: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{found['shape']}, {found['method']}",
            f"{1e3 * found['step_seconds']:.1f} ms",
            *(
                f"{found[side]['stall_seconds_a_checkpoint']:.3f} s, {found[side]['stall_share_of_steps']:.1%}"
                for side in ("async", "between")
            ),
        ]
        for found in stalls
    ]
    return _table(["checkpoints", "step", "written beside the steps", "written between them"], rows)


def _memory(peaks: list[dict[str, Any]]) -> str:
    rows = []
    for found in peaks:
        columns = ("measured_gib", "measured_over_forecast", "reserved_gib", "beside_the_allocator_gib")
        seen = [found["measured"], "", "", ""] if "measured" in found else [found[name] for name in columns]
        rows.append([found["trial"], found["forecast_gib"], *seen])
    heads = ["trials", "forecast GiB", "allocated GiB", "over the forecast", "reserved GiB", "beside the allocator GiB"]
    return _table(heads, rows)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
