"""The lines that the terminal prints below the tables of a leaderboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.output.formats import checkpoint, measure_of, nats, negated, percent, scored, seed_source, with_interval
from analysis.output.leaderboard import Figures, Leaderboard, LeaderboardRow

VS_BEST = "Δ vs best"

MEASURES = {
    "nll": "loss",
    "token_weighted": "token-weighted loss",
    "trimmed": "trimmed loss",
    "exact_match": "exact match",
    "token_f1": "token F1",
}


def legend(board: Leaderboard) -> str:
    """The meaning of the tables' columns."""
    intervals, separation, measure = board["intervals"], board.get("separation"), measure_of(board)
    unit = "a share of 1 (highest wins)" if measure.higher_is_better else "nats a token (lowest wins)"
    parts = [
        f"{measure.metric}: weighted mean over areas of the items' mean {measure.label}, {unit}.",
        "gain: how much better than the base model. EM: exact match. -: not measured.",
        f"[low, high]: {percent(intervals['level'])} interval ({intervals['scope']}).",
    ]
    if separation and separation.get("model"):
        parts.append(
            f"expected {measure.metric} ± sd: by a smooth curve over the LR through all trials; it ranks the settings."
        )
    if separation:
        intervals_of = f"simultaneous intervals over items and seeds, {seed_source(separation)}"
        parts.append(f"{VS_BEST}: how much worse than the first setting, {intervals_of}.")
    parts.append("=: not significantly worse than the first.")
    guard_rails = board.get("guard_rails")
    if guard_rails and guard_rails["allowed"]:
        parts.append(
            "guard-rails: not worse than the base model by more than is allowed; by area: ! fails, ? undecided."
        )
    return " ".join([*parts, f"The winner's gain in the table is {intervals['winner']}."])


def lines_below(board: Leaderboard) -> Iterator[str]:
    """Replicates, other measures and areas, findings, more data, suspects, sealed areas: those that the board has."""
    for row in board["rows"]:
        setting = row.get("setting")
        if row["rank"] and setting and setting["replicated"]:
            # Each replicate counts at the step that its search trial was best at.
            shown = ", ".join(
                f"{r['trial_id']} (seed {r['seed']}) {_state(board, r, row['step'])}" for r in row["replicates"]
            )
            gain = with_interval(setting["gain"], setting["gain_interval"])
            mean = f"mean {measure_of(board).metric} {scored(board, setting['objective'])}, gain {gain}"
            yield f"Replicates of {row['trial_id']}: {shown}; {mean} (items and seeds)"
    yield from _sensitivity(board.get("beside") or {})
    for finding in board.get("findings") or []:
        yield f"{finding['rule']} ({finding['severity']}): {finding['advice']}"
    if more := board.get("more_data"):
        yield more["sentence"] if more["trials"] else f"{more['sentence']} more_data.subsets: true measures it."
    if board.get("suspects"):
        yield _suspects(board["suspects"])
    yield from _sealed("Sealed area {} (no part in the ranking)", board.get("sealed") or {})
    if retrained := board.get("retrained"):
        yield from _retrained(retrained)


def _sealed(heading: str, areas: Figures) -> Iterator[str]:
    for area, scores in sorted(areas.items()):
        delta = scores["delta"]
        gain = with_interval(None if delta is None else -delta, negated(scores["delta_interval"]))
        yield f"{heading.format(area)}: nll {nats(scores['nll'])}, gain {gain}, EM {percent(scores['exact_match'])}"


def _retrained(found: Figures) -> Iterator[str]:
    less = with_interval(None if found["delta"] is None else -found["delta"], negated(found["delta_interval"]))
    fate = "is significantly worse and not exported" if found["worse"] else "is what analysis.export writes"
    yield f"Trained on the selecting held-out items too: {checkpoint(found)} {fate}; sealed loss lower by {less}"
    yield from _sealed("Sealed area {}, trained on the others", found["sealed"])


def _suspects(suspects: Figures) -> str:
    if suspects["unknown_because"]:
        return f"Training samples to look at: not known ({suspects['unknown_because']})"
    shown = _joined((one["id"], f"{one['excess_nats']:+.2f} nats") for one in suspects["samples"])
    return f"Training samples to look at (above their like, over all trials): {shown}; python -m analysis.suspects"


def _state(board: Leaderboard, replicate: LeaderboardRow, step: int | None) -> str:
    found = {point["step"]: point["objective"] for point in replicate["checkpoints"]}
    return scored(board, found.get(step)) if replicate["state"] == "complete" else str(replicate["state"])


def _sensitivity(found: Figures) -> Iterator[str]:
    if left_out := found.get("leave_one_area_out"):
        yield f"Winner with one area left out: {_joined((area, pair['trial_id']) for area, pair in left_out.items())}"
    measures = {name: pair for name, pair in (found.get("other_measures") or {}).items() if pair}
    if measures:
        shown = _joined((MEASURES[name], checkpoint(pair)) for name, pair in measures.items())
        yield f"First by other measures: {shown}"
    if shares := found.get("variance_share"):
        shown = _joined((area, percent(share)) for area, share in shares.items())
        yield f"Share of each area in the spread between settings: {shown}"
    if lost := found.get("lost_items"):
        yield from _lost(lost)


def _lost(lost: Figures) -> Iterator[str]:
    if lost["loss"] and sum(lost["loss"].values()):
        counts = _joined((area, str(count)) for area, count in lost["loss"].items())
        widest = _joined(
            (f"{item['area']}/{item['id']}", f"{nats(item['gap'])} behind {item['best']}") for item in lost["items"]
        )
        yield f"Items on which the winner is worse than the base model and another setting is better: {counts}"
        yield f"The widest of them: {widest}"
    if lost["answer"] and sum(lost["answer"].values()):
        counts = _joined((area, str(count)) for area, count in lost["answer"].items())
        yield f"Items that the winner answers wrongly and another setting rightly: {counts}"


def _joined(pairs: Any) -> str:
    return " · ".join(f"{name} {value}" for name, value in pairs)
