"""The outcome's lines on the metrics: before and after, for the one that decides and for the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from analysis.output.board_figures import answer_metrics, best_checkpoint, first_upper, mean_of, metric_label
from analysis.output.formats import change, digits_for, measure_of, negated, share, signed, trial_name
from analysis.output.leaderboard import Interval, Leaderboard
from trainables.evaluation.objective import NLL


class Line(NamedTuple):
    """One point of the outcome; `alarm` where the reader should act on it."""

    label: str
    text: str
    alarm: bool = False
    value: str = ""  # for a tile of the report: the figure, if there is one
    notes: tuple[str, ...] = ()  # and what stands below it; the text where there is no figure


def metric_lines(board: Leaderboard) -> Iterator[Line]:
    """The metric that decides, then the loss and the metrics of answers, of the base model and of the best setting."""
    measure = measure_of(board)
    yield _deciding(board)
    base, after = board["baseline"].get("areas") or {}, best_checkpoint(board).get("areas") or {}
    for name in [*([NLL] if measure.metric != NLL else []), *answer_metrics(board)]:
        before, now = mean_of(board, base, name), mean_of(board, after, name)
        if name == measure.metric or (before is None and now is None):
            continue
        shown = (lambda x: "unknown" if x is None else f"{x:.2f}") if name == NLL else share
        text = f"{shown(before)} → {shown(now)}"
        none_right = name == "exact_match" and now == 0
        more = "no answer is correct yet" if none_right else _others(board, name)
        label = first_upper(metric_label(name))
        yield Line(label, "; ".join(filter(None, (text, more))), none_right, value=text, notes=(more,))


def _deciding(board: Leaderboard) -> Line:
    row, gains = board["rows"][0], board.get("winner_gain")
    base, label = board["baseline"].get("objective"), first_upper(measure_of(board).label)
    plain, interval = (gains["plain"], gains["plain_interval"]) if gains else (row["gain"], row["gain_interval"])
    if plain is None or base is None:
        return Line(label, f"{_value(board, row['objective'])}; the base model was not scored")
    before, after = (_value(board, objective, plain) for objective in (base, base - plain))
    value, moved = f"{before} → {after}", difference(board, plain, interval)
    text, notes = f"{value} ({moved})", [moved]
    corrected = gains["corrected"] if gains else None
    if gains and corrected is not None:
        interval = gains["corrected_interval"]
        if difference(board, corrected, None) != difference(board, plain, None):
            notes.append(f"corrected for selection {difference(board, corrected, interval)}")
    alarm = interval is not None and interval[0] <= 0
    if alarm:
        below = interval is not None and interval[1] < 0
        notes.append(f"{'worse' if below else 'not significantly better'} than the base model")
    return Line(label, "; ".join([text, *notes[1:]]), alarm, value, tuple(notes))


def _value(board: Leaderboard, objective: float | None, difference: float | None = None) -> str:
    if objective is None:
        return "unknown"
    measure = measure_of(board)
    value = measure.turned(objective)
    return share(value) if measure.higher_is_better else f"{value:.{digits_for(difference)}f}"


def difference(board: Leaderboard, gain: float, interval: Interval | None) -> str:
    """A gain as the reader sees the metric move: a loss falls, a share rises by points."""
    if not measure_of(board).higher_is_better:
        return change(-gain, negated(interval), digits_for(gain))
    points = signed(100 * gain, 0)
    return f"{points} points" + ("" if interval is None else f", 95 % CI {_points(interval)}")


def _points(interval: Interval) -> str:
    return " to ".join(signed(100 * end, 0) for end in interval)


def _others(board: Leaderboard, name: str) -> str:
    """Where another setting has the highest of a metric that does not decide."""
    found = (board.get("beside") or {}).get("agreement")
    if not found or found["decides"] or found["agrees"] or found["metric"] != metric_label(name):
        return ""
    other, low = found["metric_first"], (found["interval"] or [0.0])[0]
    doubt = "" if low > 0 else ", not significant"
    return f"highest at {trial_name(board, other['trial_id'])} ({signed(100 * found['difference'], 0)} points{doubt})"
