"""Characters that stand where the numbers say."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.output.terminal_plots import BARS, DOTS, interval_bar, plot, sparkline

NUMBERS = st.floats(-5, 5, allow_nan=False)


@pytest.mark.parametrize(
    ("low", "value", "high", "reach", "line"),
    [
        (0.0, 5.0, 10.0, (0.0, 10.0), "├────●────┤"),
        (2.0, 3.0, 4.0, (0.0, 10.0), "│ ├●┤      "),
        (-2.0, 1.0, 4.0, (-5.0, 5.0), "   ├──●──┤ "),
        (-1.0, -1.0, -1.0, (-5.0, 5.0), "    ●│     "),
        (2.0, 3.0, 4.0, (1.0, 11.0), " ├●┤       "),
        (-9.0, 0.0, 99.0, (-5.0, 5.0), "├────●────┤"),
    ],
)
def test_an_interval_lies_where_its_ends_are(low, value, high, reach, line):
    assert interval_bar(low, value, high, reach, 11) == line


@given(st.lists(NUMBERS, min_size=3, max_size=3).map(sorted), st.integers(2, 60))
def test_an_interval_fills_its_width_and_shows_its_value(three, width):
    line = interval_bar(*three, (-6.0, 6.0), width)
    assert len(line) == width
    assert line.count("●") == 1


def test_a_reach_must_ascend():
    with pytest.raises(ValueError, match=r"ascends .* got \(1.0, 1.0\) and 5"):
        interval_bar(1.0, 1.0, 1.0, (1.0, 1.0), 5)


def dots(lines):
    """(column, row from below) of every dot."""
    found = set()
    for above, line in enumerate(reversed(lines)):
        for column, character in enumerate(line):
            bits = 0 if character == " " else ord(character) - 0x2800
            for x in range(2):
                for y in range(4):
                    if bits & DOTS[x][y]:
                        found.add((2 * column + x, 4 * above + 3 - y))
    return found


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right():
    assert dots(plot([0, 1], [0.0, 1.0], 4, 2)) == {(k, k) for k in range(8)}
    assert plot([0, 1], [0.0, 1.0], 4, 2) == ["  ⡠⠊", "⡠⠊  "]


def test_gaps_stay_open_and_what_lies_beyond_the_ends_is_left_out():
    drawn = dots(plot([0, 1, 2, 3, 4], [1.0, 1.0, None, 1.0, 1.0], 5, 1, (0.0, 2.0)))
    assert {column for column, _ in drawn} == {0, 1, 2, 7, 8, 9}
    assert dots(plot([0, 1], [5.0, 5.0], 3, 1, (0.0, 2.0))) == set()
    assert plot([0, 1], [None, None], 3, 2) == ["   ", "   "]


@given(st.lists(st.none() | NUMBERS, min_size=1, max_size=30), st.integers(1, 20), st.integers(1, 8))
def test_a_plot_fills_its_box_and_reaches_its_ends(values, width, height):
    lines = plot(list(range(len(values))), values, width, height)
    assert [len(line) for line in lines] == [width] * height
    known = {value for value in values if value is not None}
    rows = {row for _, row in dots(lines)}
    assert bool(rows) == bool(known)
    if len(known) > 1:
        assert {min(rows), max(rows)} == {0, 4 * height - 1}


@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_a_sparkline_has_a_bar_for_each_value_in_their_order(values):
    line = sparkline(values)
    assert len(line) == len(values)
    heights = [BARS.index(character) for character in line]
    for (a, x), (b, y) in itertools.pairwise(sorted(zip(values, heights, strict=True))):
        assert x <= y, (a, b)
    assert min(heights) == 0
    assert max(heights) == (7 if max(values) > min(values) else 0)
