"""The sweep's outcome in a few sentences, which claim no more than the data support."""

from __future__ import annotations

from collections import Counter

from analysis.output.formats import nats, seed_source, with_interval
from analysis.output.leaderboard import CheckpointName, Leaderboard, LeaderboardRow, SeparationMethod

SHOWN_TIES = 5


def verdict(board: Leaderboard) -> str:
    """The winner and its gain, a tie, or why there is neither; then replicates and guard-rails, if any.

    Args:
        board: What `analysis.rank.leaderboard.leaderboard` returns, of this version or an earlier one.
    """
    if not board["winner"]:
        states = Counter(row["state"] for row in board["rows"])
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no trial has ended"
        reason = "No complete trial has held-out scores" if states["complete"] else "No complete trial"
        return f"{reason}: nothing to rank ({counted})."
    name = _checkpoint(board["winner"])
    return " ".join(part for part in (_outcome(board, name), _over_seeds(board), _guard_rails(board)) if part)


def _outcome(board: Leaderboard, name: str) -> str:
    separation = board.get("separation")
    tied = [row for row in board["rows"] if row["tied"]]
    scope = f"items and {seed_source(separation)}" if separation else board["intervals"]["scope"]
    if separation and not separation["comparisons"]:
        return f"Winner: {name}, the only setting that can be ranked; {_gain(board)}."
    if _replicated(board["rows"][0]):
        return _confirmed(board, name, [row for row in tied if not _replicated(row)], scope)
    if separation and separation["seed_sd_source"] == "unknown":
        return (
            f"Lowest {_expected(separation)}of {1 + len(tied)} settings: {name}. "
            "The luck of the seed was not measured, so no setting is "
            f"called better than another (confirm.budget measures it); {_gain(board)}."
        )
    if tied:
        lowest = "has the lowest expected loss but is" if _expected(separation) else "is lowest but"
        return f"Tie: {name} {lowest} not told apart from {_names(tied)} ({scope}); {_gain(board)}."
    return f"Winner: {name}, {f'told apart from all others ({scope})' if separation else scope}; {_gain(board)}."


def _expected(separation: SeparationMethod | None) -> str:
    return "expected loss " if separation and separation.get("model") else ""


def _confirmed(board: Leaderboard, name: str, single: list[LeaderboardRow], scope: str) -> str:
    # Replicates decide; ties with settings that were never replicated are said after them.
    rows = [row for row in board["rows"][1:] if _replicated(row)]
    tied = [row for row in rows if row["tied"]]
    if tied:
        text = f"Tie: {name} is lowest but its setting is not told apart from {_names(tied)}"
    elif rows:
        text = f"Winner: {name}, its setting told apart from the others that were replicated, {_names(rows)}"
    else:
        text = f"Winner: {name}, of the only setting that was replicated"
    more = f"; not told apart by the search alone and never replicated: {_names(single)}" if single else ""
    return f"{text} ({scope}){more}; {_gain(board)}."


def _checkpoint(pair: CheckpointName) -> str:
    return f"{pair['trial_id']} at step {pair['step']}"


def _replicated(row: LeaderboardRow) -> bool:
    setting = row.get("setting")
    return bool(setting and setting["replicated"])


def _names(rows: list[LeaderboardRow]) -> str:
    names = [row["trial_id"] for row in rows]
    if len(names) > SHOWN_TIES:
        names[SHOWN_TIES:] = [f"{len(names) - SHOWN_TIES} more"]
    return ", ".join(names)


def _gain(board: Leaderboard) -> str:
    best, gains = board["rows"][0], board.get("winner_gain")
    plain, interval = (gains["plain"], gains["plain_interval"]) if gains else (best["gain"], best["gain_interval"])
    corrected = gains["corrected"] if gains else None
    if plain is None:
        return "the base model was not scored"
    if gains is None or corrected is None or corrected == plain:
        text = f"gain over the base model {with_interval(plain, interval)} nats a token"
    else:
        interval = gains["corrected_interval"]
        text = f"gain over the base model {with_interval(corrected, interval)} nats a token, corrected for having been "
        text += f"selected (plain and optimistic: {nats(plain)})"
    if interval is not None and interval[0] <= 0:
        text += ", not told apart from no gain" if interval[1] >= 0 else ", worse than the base model"
    return text


def _over_seeds(board: Leaderboard) -> str:
    setting = board["rows"][0].get("setting")
    if not setting or not setting["replicated"]:
        return ""
    seeds, gain = setting["seeds"], with_interval(setting["gain"], setting["gain_interval"])
    return f"Its setting gains {gain} over {seeds} fresh seed{'s' if seeds > 1 else ''}."


def _guard_rails(board: Leaderboard) -> str:
    rails, row = board.get("guard_rails"), board["rows"][0]
    if not rails or rails["winner"] in (None, "pass"):
        return ""
    if rails["winner"] == "undecided":
        return f"Guard-rails undecided: {_areas(row, 'undecided')}."
    best = rails["best_passing"]
    passing = f"the best that passes all is {_checkpoint(best)}" if best else "no setting passes all"
    return f"It FAILS its guard-rails: {_areas(row, 'fail')}; {passing}."


def _areas(row: LeaderboardRow, outcome: str) -> str:
    return ", ".join(
        f"{area} {rail['delta']:+.3f} against the base model, allowed {rail['allowed']:+.3f}"
        for area, rail in sorted(row["guard_rails"].items())
        if rail["outcome"] == outcome
    )
