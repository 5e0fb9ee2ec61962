"""PURE. Intervals and curves as characters, for a terminal that shows Unicode."""

from __future__ import annotations

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
BRAILLE = 0x2800
# Bit of each dot of a braille character: two columns of four, from the top (Unicode 15, block Braille Patterns).
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def interval_bar(low: float, value: float, high: float, reach: tuple[float, float], width: int) -> str:
    """An interval on a line: `│   ├──●─┤   `, with a bar at 0.

    Args:
        low: Lower end.
        value: Drawn as a dot.
        high: Upper end.
        reach: Values at the line's ends; the second above the first.
        width: Characters, 2 and up.

    Returns:
        `width` characters; a value beyond the reach is drawn at the edge.
    """
    first, last = reach
    if last <= first or width < 2:
        raise ValueError(f"needs a reach that ascends and 2 characters or more, got {reach} and {width}")

    def place(x: float) -> int:
        return min(width - 1, max(0, round((x - first) / (last - first) * (width - 1))))

    line = [" "] * width
    if first <= 0 <= last:
        line[place(0.0)] = "│"
    start, end = place(low), place(high)
    line[start : end + 1] = "─" * (end - start + 1)
    line[start], line[end] = "├", "┤"
    line[place(value)] = "●"
    return "".join(line)


def sparkline(values: Sequence[float]) -> str:
    """A curve in one line, a bar a value: `█▆▃▁`; one that is not finite is drawn as `×`."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return "×"
        return BARS[0 if high <= low else round((value - low) / (high - low) * (len(BARS) - 1))]

    return "".join(map(bar, values))


def plot(
    x: Sequence[float],
    y: Sequence[float | None],
    width: int,
    height: int,
    ends: tuple[float, float] | None = None,
) -> list[str]:
    """A curve in braille dots, two by four to a character, neighbours joined by straight lines.

    Args:
        x: Ascending.
        y: In parallel; None leaves a gap.
        width: Characters.
        height: Lines.
        ends: Values of the lowest and the highest dot; by default the curve's own ends. Values beyond are left out.

    Returns:
        `height` lines of `width` characters; empty ones where no value is known.
    """
    known = [value for value in y if value is not None]
    cells = [[0] * width for _ in range(height)]
    if known:
        low, high = ends or (min(known), max(known))
        across = (x[0], x[-1])
        points = [
            None if value is None else (_dot(at, across, 2 * width), _dot(value, (low, high), 4 * height))
            for at, value in zip(x, y, strict=True)
        ]
        for before, after in zip([None, *points], points, strict=False):
            if after is not None:
                for column, row in _line(before or after, after):
                    if 0 <= row < 4 * height:
                        cells[height - 1 - row // 4][column // 2] |= DOTS[column % 2][3 - row % 4]
    return ["".join(chr(BRAILLE + cell) if cell else " " for cell in line) for line in cells]


def _dot(value: float, ends: tuple[float, float], dots: int) -> int:
    low, high = ends  # a range of no width is drawn in the middle
    return dots // 2 if high <= low else round((value - low) / (high - low) * (dots - 1))


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (round(start[0] + (end[0] - start[0]) * k / steps), round(start[1] + (end[1] - start[1]) * k / steps))
        for k in range(steps + 1)
    ]
