"""The sweep's outcome in a few lines, which claim no more than the data support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.output.board_figures import (
    best,
    counted,
    regressions,
    state_counts,
)
from analysis.output.formats import (
    change,
    digits_for,
    measure_of,
    percent,
    rate,
    seed_source,
    setting_words,
    signed,
    trial_name,
)
from analysis.output.leaderboard import Leaderboard, LeaderboardRow
from analysis.output.metric_lines import Line, difference, metric_lines

SHOWN_TIES = SHOWN_AREAS = 3


def verdict(board: Leaderboard) -> str:
    """The outcome as a paragraph; see `summary`."""
    return " ".join(f"{line.label}: {line.text}." for line in summary(board))


def summary(board: Leaderboard) -> list[Line]:
    """The best setting, its gain, how sure that is, what got worse, and what was measured beside it.

    Args:
        board: What `analysis.rank.leaderboard.leaderboard` returns, of this version or an earlier one.
    """
    if not board["winner"]:
        reason = (
            "no completed trial has held-out scores" if state_counts(board)["complete"] else "no trial was completed"
        )
        return [Line("Result", f"{reason}, so nothing can be ranked ({counted(board)})", alarm=True)]
    return [
        _best(board),
        *metric_lines(board),
        _sureness(board),
        *_over_seeds(board),
        *_recommended(board),
        *_rails(board),
        *_beside(board),
    ]


def _best(board: Leaderboard) -> Line:
    pair, params = board["winner"], board["rows"][0]["params"]
    assert pair, "only where there is a winner"
    name = "Best learning rate" if "peak_lr" in params else "Best setting"
    place = f"{pair['trial_id']}, step {pair['step']}"
    if "peak_lr" not in params:
        return Line(name, f"{setting_words(params)} ({place})" if params else place)
    first, *rest = setting_words(params).split(", ")
    separation = board.get("separation")
    # Where seeds were not measured, nothing is said of ties.
    known = not separation or separation["seed_sd_source"] != "unknown"
    tied = sum(bool(row["tied"]) for row in board["rows"]) if known else 0
    notes = [*([f"one of {1 + tied} that tie"] if tied else []), ", ".join(rest)]
    return Line(name, f"{', '.join([first, *filter(None, notes)])} ({place})", value=first, notes=(*notes, place))


def _sureness(board: Leaderboard) -> Line:
    separation, label = board.get("separation"), "How sure"
    tied = [row for row in board["rows"] if row["tied"]]
    if separation is None:
        return Line(label, f"tie with {names(tied)} ({_scope(board)})" if tied else _scope(board))
    if not separation["comparisons"]:
        return Line(label, "the only setting that can be ranked")
    if _replicated(board["rows"][0]):
        return Line(label, _confirmed(board, tied))
    expected = "expected " if separation.get("model") else ""
    if separation["seed_sd_source"] == "unknown":
        place = f"{best(board)} {expected}{measure_of(board).label} of {1 + len(tied)}"
        unknown = "seeds not measured (confirm.budget measures them)"
        return Line(label, f"{place}; {unknown}", value=f"{best(board)} of {1 + len(tied)}", notes=(unknown,))
    if tied:
        no = "the difference is not" if len(tied) == 1 else "no difference is"
        text = f"tie with {names(tied)}: {no} significant ({_scope(board)})"
        return Line(label, text, value="tie", notes=(text.removeprefix("tie "),))
    others = len([row for row in board["rows"] if row["rank"]]) - 1
    other = "the other setting" if others == 1 else f"the other {others} settings"
    text = f"significantly better than {other} ({_scope(board)}){_at_the_edge(board)}"
    return Line(label, text, value="significant", notes=(text.removeprefix("significantly "),))


def _at_the_edge(board: Leaderboard) -> str:
    """A comparison says nothing of what was not tried."""
    edge = any(one["rule"] in ("at_an_end", "outermost") for one in board.get("advice") or ())
    return "; it lies at the edge of what was tried, a better one may lie beyond" if edge else ""


def _scope(board: Leaderboard) -> str:
    separation = board.get("separation")
    return f"items and {seed_source(separation)}" if separation else str(board["intervals"]["scope"])


def _confirmed(board: Leaderboard, tied: list[LeaderboardRow]) -> str:
    # Between replicated settings; ties with settings that were never replicated are said after them.
    separation = board.get("separation")
    by_model = separation is not None and separation["seed_sd_source"] == "rotation"
    by = "by all trials together" if by_model else "over new seeds"
    rows, single = [row for row in board["rows"][1:] if _replicated(row)], [row for row in tied if not _replicated(row)]
    equal = [row for row in tied if _replicated(row)]
    if equal:
        text = f"tie with {names(equal)} {by}: no significant difference, either is fine"
    elif rows:
        text = f"significantly better than {names(rows)} {by}{_at_the_edge(board)}"
    else:
        text = "the only setting that was trained with more seeds"
    more = f"; not trained with more seeds, and not significantly worse: {names(single)}" if single else ""
    return f"{text} ({_scope(board)}){more}"


def _over_seeds(board: Leaderboard) -> Iterator[Line]:
    setting: Mapping[str, Any] = board["rows"][0].get("setting") or {}
    if setting.get("replicated") and setting["gain"] is not None:
        seeds = setting["seeds"]
        moved = difference(board, setting["gain"], setting["gain_interval"])
        yield Line("Over seeds", f"{moved} against the base model, mean of {seeds} new seed{'s' if seeds > 1 else ''}")


def _recommended(board: Leaderboard) -> Iterator[Line]:
    found = board.get("recommended")
    tried = sum(bool(row["rank"]) for row in board["rows"])
    if not found or (found["outcome"] == "best" and tried < 2):
        return
    measure, label = measure_of(board), "Rule of thumb"
    name, enough = trial_name(board, found["trial_id"]), f"{found['worthwhile']:g} {measure.unit}"
    if found["lead"] is None:
        yield Line(label, f"{name} diverged", value="diverged", notes=(name,))
        return
    digits, interval = digits_for(found["lead"]), found["lead_interval"]
    ends = [signed(end, digits).lstrip("+") for end in interval or ()]
    lead = f"{found['lead']:.2g}" + (f" (95 % CI {' to '.join(ends)})" if ends else "")
    value, text = {
        "best": ("not beaten", f"nothing beat it, {name}, in {tried} trials"),
        "enough": ("enough", f"{name} is enough: the best is ahead by {lead}, at most {enough}"),
        "beaten": ("beaten", f"{name} is beaten by {lead}, more than {enough}"),
        "unknown": ("undecided", f"{name} is {lead} behind; whether by more than {enough} is not known"),
    }[found["outcome"]]
    yield Line(label, text, value=value, notes=(text,))


def _rails(board: Leaderboard) -> Iterator[Line]:
    row, label, worse = board["rows"][0], "Regressions", regressions(board)
    rails: Mapping[str, Any] = row.get("guard_rails") or {}
    deltas = {area: one["delta"] for area, one in (row.get("areas") or {}).items() if one.get("delta") is not None}
    if worse:
        found = board.get("guard_rails")
        shown = [f"{area} {_moved(board, x)}{_allowed(rails.get(area))}" for area, x in sorted(worse.items())]
        passing = found["best_passing"] if found else None
        without = f"; best without any: {trial_name(board, passing['trial_id'])}" if passing else ""
        text = f"{_few(shown)}{without or ('; no setting is without' if rails else '')}"
        yield Line(label, text, alarm=True, value=f"{len(worse)} of {len(deltas)} areas", notes=(text,))
    elif unsure := [area for area, rail in sorted(rails.items()) if rail["outcome"] == "undecided"]:
        shown = [f"{area} {_moved(board, rails[area]['delta'])}{_allowed(rails[area])}" for area in unsure]
        yield Line(label, f"undecided, too few items: {_few(shown)}")
    elif deltas:
        shown = [f"{area} {_moved(board, deltas[area])}" for area in sorted(deltas, key=lambda area: -deltas[area])]
        many = len(shown) > SHOWN_AREAS
        text = f"none in {len(shown)} areas (least gain: {shown[0]})" if many else f"none: {', '.join(shown)}"
        yield Line(label, text, value="none", notes=(text.removeprefix("none").lstrip(": "),))


def _beside(board: Leaderboard) -> Iterator[Line]:
    """What was measured once, at the end: more data, final test sets, the retrained winner."""
    more = board.get("more_data")
    if more and more["trials"]:
        text = str(more["sentence"]).partition(": ")[2].rstrip(".")
        yield Line("More data", text, value=str(more["verdict"]).removeprefix("more data "), notes=(text,))
    for area, scores in sorted((board.get("sealed") or {}).items()):
        moved = change(scores["delta"], scores["delta_interval"])
        text = f"{area}, loss {scores['nll']:.2f} ({moved} against base), exact match {percent(scores['exact_match'])}"
        yield Line("Final test set", text, value=f"{scores['nll']:.2f}", notes=(text,))
    if again := board.get("retrained"):
        fate = "significantly worse, not exported" if again["worse"] else "exported in place of the best"
        moved = change(again["delta"], again["delta_interval"])
        text = f"{again['trial_id']}, on held-out items too: {moved} on final test sets against the best; {fate}"
        yield Line(
            "Retrained", text, value="worse" if again["worse"] else "exported", notes=(text,), alarm=again["worse"]
        )


def _moved(board: Leaderboard, delta: float) -> str:
    """An area's difference to the base model, in the metric itself."""
    if measure_of(board).higher_is_better:
        return f"{signed(-100 * delta, 0)} points"
    return signed(delta, digits_for(delta))


def _allowed(rail: Mapping[str, Any] | None) -> str:
    return f" (allowed {rail['allowed']:.3g})" if rail else ""


def _few(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN_AREAS} more" if len(texts) > SHOWN_AREAS else ""
    return ", ".join(texts[:SHOWN_AREAS]) + more


def names(rows: list[LeaderboardRow]) -> str:
    """Settings by trial and peak LR, the first few of many."""
    shown = [f"{row['trial_id']} · {rate(row['params'].get('peak_lr'))}" for row in rows]
    if len(shown) > SHOWN_TIES:
        shown[SHOWN_TIES:] = [f"{len(shown) - SHOWN_TIES} more"]
    return ", ".join(shown)


def _replicated(row: LeaderboardRow) -> bool:
    setting = row.get("setting")
    return bool(setting and setting["replicated"])
