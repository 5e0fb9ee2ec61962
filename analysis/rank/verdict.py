"""The sweep's outcome in a few sentences, which claim no more than the data support."""

from __future__ import annotations

from collections import Counter

from analysis.output.formats import measure_of, nats, seed_source, with_interval
from analysis.output.leaderboard import CheckpointName, Leaderboard, LeaderboardRow

SHOWN_TIES = 5


def verdict(board: Leaderboard) -> str:
    """Whether the recommended setting was enough; the winner and its gain, a tie, or why there is neither; the rest.

    Args:
        board: What `analysis.rank.leaderboard.leaderboard` returns, of this version or an earlier one.
    """
    if not board["winner"]:
        states = Counter(row["state"] for row in board["rows"])
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no trial has ended"
        reason = "No complete trial has held-out scores" if states["complete"] else "No complete trial"
        return f"{reason}: nothing to rank ({counted})."
    name = _checkpoint(board["winner"])
    parts = (_recommended(board), _outcome(board, name), _over_seeds(board), _guard_rails(board), _agreement(board))
    return " ".join(part for part in parts if part)


def _recommended(board: Leaderboard) -> str:
    found = board.get("recommended")
    if not found:
        return ""
    setting, tried = f"the recommended setting ({found['trial_id']})", sum(bool(row["rank"]) for row in board["rows"])
    if found["outcome"] == "best":
        return f"Nothing beat {setting}, out of {tried} tried to the end." if tried > 1 else ""
    enough = f"{found['worthwhile']:g} {measure_of(board).unit}"
    lead, name = with_interval(found["lead"], found["lead_interval"]), board["winner_setting"]
    if found["outcome"] == "enough":
        return f"{setting.capitalize()} is enough: the lead of {name}, {lead}, is at most {enough}."
    if found["outcome"] == "beaten":
        return f"{name} beats {setting} by {lead}, more than {enough}."
    return f"Whether anything beats {setting} by more than {enough} is not known: {name} leads by {lead}."


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
            f"{best(board).capitalize()} {_expected(board)}of {1 + len(tied)} settings: {name}. "
            "The luck of the seed was not measured, so no setting is "
            f"called better than another (confirm.budget measures it); {_gain(board)}."
        )
    if tied:
        expected = _expected(board)
        lowest = f"has the {best(board)} {expected}but is" if expected else f"is {best(board)} but"
        return f"Tie: {name} {lowest} not significantly better than {_names(tied)} ({scope}); {_gain(board)}."
    return (
        f"Winner: {name}, {f'significantly better than all others ({scope})' if separation else scope}; {_gain(board)}."
    )


def _expected(board: Leaderboard) -> str:
    """What settings rank by where a model of all trials names them, such as "expected loss "."""
    separation = board.get("separation")
    return f"expected {measure_of(board).label} " if separation and separation.get("model") else ""


def _confirmed(board: Leaderboard, name: str, single: list[LeaderboardRow], scope: str) -> str:
    # Replicates decide; ties with settings that were never replicated are said after them.
    rows = [row for row in board["rows"][1:] if _replicated(row)]
    tied = [row for row in rows if row["tied"]]
    if tied:
        text = f"Tie: {name} is {best(board)} but its setting is not significantly better than {_names(tied)}"
    elif rows:
        text = f"Winner: {name}, its setting significantly better than the others that were replicated, {_names(rows)}"
    else:
        text = f"Winner: {name}, of the only setting that was replicated"
    more = f"; never replicated, and not significantly worse by the search alone: {_names(single)}" if single else ""
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
    row, gains, unit = board["rows"][0], board.get("winner_gain"), measure_of(board).unit
    plain, interval = (gains["plain"], gains["plain_interval"]) if gains else (row["gain"], row["gain_interval"])
    corrected = gains["corrected"] if gains else None
    if plain is None:
        return "the base model was not scored" + (" by it" if measure_of(board).higher_is_better else "")
    if gains is None or corrected is None or corrected == plain:
        text = f"gain over the base model {with_interval(plain, interval)} {unit}"
    else:
        interval = gains["corrected_interval"]
        text = f"gain over the base model {with_interval(corrected, interval)} {unit}, corrected for having been "
        text += f"selected (plain and optimistic: {nats(plain)})"
    if interval is not None and interval[0] <= 0:
        text += ", not significantly above 0" if interval[1] >= 0 else ", worse than the base model"
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


def best(board: Leaderboard) -> str:
    """The end of the deciding metric that wins: `lowest` or `highest`."""
    return "highest" if measure_of(board).higher_is_better else "lowest"


def _agreement(board: Leaderboard) -> str:
    found = (board.get("beside") or {}).get("agreement")
    if not found:
        return ""
    metric, other = found["metric"], "loss" if found["decides"] else found["metric"]
    if found["agrees"]:
        return f"{other.capitalize()} agrees: no other setting is {'lower' if found['decides'] else 'higher'} by it."
    first, second = _checkpoint(found["loss_first"]), _checkpoint(found["metric_first"])
    exact = "" if found["p"] is None else f", exact p {found['p']:.2g}"
    shown = f"{metric} {with_interval(found['difference'], found['interval'])} higher{exact}"
    low = (found["interval"] or [0.0])[0]
    told = "" if low > 0 else "; the items do not tell that from none"
    return f"Loss and {metric} disagree: by loss {first} is lowest, by {metric} {second} is highest ({shown}{told})."


def _areas(row: LeaderboardRow, outcome: str) -> str:
    return ", ".join(
        f"{area} {rail['delta']:+.3f} against the base model, allowed {rail['allowed']:+.3f}"
        for area, rail in sorted(row["guard_rails"].items())
        if rail["outcome"] == outcome
    )
