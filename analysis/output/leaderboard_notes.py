"""The statistics behind a leaderboard, as lines: the terminal prints them with `--full`, the report folds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.output.board_figures import best_checkpoint, cut_answers, first_upper, metric_label
from analysis.output.formats import (
    change,
    labeled,
    measure_of,
    nats,
    percent,
    scored,
    seed_source,
    trial_name,
    with_interval,
)
from analysis.output.leaderboard import Figures, Leaderboard, LeaderboardRow
from trainables.evaluation.objective import NLL

VS_BEST = "Δ vs best"

OTHER_LOSSES = {"nll": "held-out loss", "token_weighted": "token-weighted loss", "trimmed": "trimmed loss"}


def legend(board: Leaderboard) -> Iterator[str]:
    """The meaning of the tables' columns, a sentence or two each."""
    intervals, separation, measure = board["intervals"], board.get("separation"), measure_of(board)
    if measure.metric == NLL:
        yield "held-out loss: mean NLL per response token of an item, in nats; mean over items, weighted over areas."
    else:
        yield f"{measure.label}: mean over items, weighted over areas, a share of 1; the highest wins."
    yield f"Δ vs base: minus the base model's. [low, high]: {percent(intervals['level'])} CI ({intervals['scope']})."
    if separation and separation.get("model"):
        yield f"expected {measure.label} ± SD: from a smooth curve over the LR through all trials; it ranks."
    if separation:
        yield f"{VS_BEST}: minus the best setting's. Simultaneous CIs over items and seeds (Bonferroni over all pairs)."
        yield f"{first_upper(seed_source(separation))}."
    yield "=: not significantly worse than the best. EM: exact match. -: not measured."
    if any(row.get("guard_rail") for row in board["rows"]):
        yield "regression check: worse than the base model by at most not_worse_by, area by area."
        yield "! regressed, ? too few items to say."


def lines_below(board: Leaderboard) -> Iterator[str]:
    """Replicates, selection, other measures and areas, findings, more data, suspects, sealed areas."""
    for row in board["rows"]:
        setting = row.get("setting")
        if row["rank"] and setting and setting["replicated"]:
            # Each replicate counts at the step that its search trial was best at.
            shown = ", ".join(
                f"{r['trial_id']} (seed {r['seed']}) {_state(board, r, row['step'])}" for r in row["replicates"]
            )
            gain = with_interval(setting["gain"], setting["gain_interval"])
            mean = f"mean {measure_of(board).label} {scored(board, setting['objective'])}, better than base by {gain}"
            yield f"More seeds of {labeled(row['trial_id'], row['params'])}: {shown}; {mean} (items and seeds)"
    yield from _cut(board)
    yield from _selection(board)
    yield from _sensitivity(board, board.get("beside") or {})
    for finding in board.get("findings") or []:
        yield f"{finding['rule']} ({finding['severity']}): {finding['advice']}"
    if more := board.get("more_data"):
        yield more["sentence"] if more["trials"] else f"{more['sentence']} more_data.subsets: true measures it."
    if board.get("suspects"):
        yield _suspects(board["suspects"])
    yield from _sealed("Final test set {} (sealed, no part in the ranking)", board.get("sealed") or {})
    if retrained := board.get("retrained"):
        yield from _retrained(retrained)


def _cut(board: Leaderboard) -> Iterator[str]:
    """Answers that had not ended: their scores count only what was written by then."""
    sides = {"best": best_checkpoint(board).get("areas") or {}, "base model": board["baseline"].get("areas") or {}}
    shown = [(name, found) for name, areas in sides.items() if (found := cut_answers(areas))]
    for name, found in shown:
        counts = _joined((area, f"{count} of {items}") for area, (count, items) in found.items())
        yield f"Answers cut at max_new_tokens, {name}: {counts}"


def _sealed(heading: str, areas: Figures) -> Iterator[str]:
    for area, scores in sorted(areas.items()):
        moved = change(scores["delta"], scores["delta_interval"], 3)
        text = f"loss {nats(scores['nll'])} ({moved} against base), exact match {percent(scores['exact_match'])}"
        yield f"{heading.format(area)}: {text}"


def _retrained(found: Figures) -> Iterator[str]:
    moved = change(found["delta"], found["delta_interval"], 3)
    fate = "is significantly worse and not exported" if found["worse"] else "is what analysis.export writes"
    name = f"{found['trial_id']} at step {found['step']}"
    yield f"Trained on the selecting held-out items too: {name} {fate} ({moved} against the winner)."
    yield from _sealed("Final test set {} (sealed), of that model", found["sealed"])


def _selection(board: Leaderboard) -> Iterator[str]:
    gains = board.get("winner_gain")
    corrected = gains["corrected"] if gains else None
    if gains is None or corrected is None:
        return
    # A correction that shows in no digit needs no lecture.
    if nats(corrected) != nats(gains["plain"]):
        count = sum(point.get("objective") is not None for row in board["rows"] for point in row["checkpoints"])
        yield (
            f"Selection-bias-corrected gain of the best: {with_interval(corrected, gains['corrected_interval'])} "
            f"(best of {count} checkpoints; uncorrected {nats(gains['plain'])})."
        )


def _suspects(suspects: Figures) -> str:
    if suspects["unknown_because"]:
        return f"Possibly mislabeled training samples: not known ({suspects['unknown_because']})"
    shown = _joined((one["id"], f"{one['excess_nats']:+.2f}") for one in suspects["samples"])
    return f"Possibly mislabeled training samples (loss above similar ones'): {shown}. See python -m analysis.suspects."


def _state(board: Leaderboard, replicate: LeaderboardRow, step: int | None) -> str:
    found = {point["step"]: point["objective"] for point in replicate["checkpoints"]}
    return scored(board, found.get(step)) if replicate["state"] == "complete" else str(replicate["state"])


def _sensitivity(board: Leaderboard, found: Figures) -> Iterator[str]:
    if left_out := found.get("leave_one_area_out"):
        yield _left_out(board, left_out)
    yield from _other_measures(board, found.get("other_measures") or {})
    yield from _agreement(board, found.get("agreement"))
    if shares := found.get("variance_share"):
        shown = _joined((area, percent(share)) for area, share in shares.items())
        yield f"Which area drives the ranking, in % of the variance between settings: {shown}"
    if lost := found.get("lost_items"):
        yield from _lost(board, lost)


def _left_out(board: Leaderboard, left_out: Figures) -> str:
    others = {area: pair for area, pair in left_out.items() if pair["trial_id"] != _best(board)["trial_id"]}
    if not others:
        return f"Leave one area out: the best stays {trial_name(board, _best(board)['trial_id'])} whichever is dropped."
    shown = _joined((f"without {area}", trial_name(board, pair["trial_id"])) for area, pair in others.items())
    return f"Leave one area out: another setting is best {shown}."


def _other_measures(board: Leaderboard, measures: Figures) -> Iterator[str]:
    """By which other measures the same setting is best, and by which another; one that is 0 for all ranks nothing."""
    found = {name: pair for name, pair in measures.items() if pair}
    nothing = [name for name in found if name not in OTHER_LOSSES and not found[name]["value"]]
    same = [n for n in found if n not in nothing and found[n]["trial_id"] == _best(board)["trial_id"]]
    if same:
        yield f"Same best setting by {', '.join(_measure(name) for name in same)}."
    for name in found:
        if name not in same and name not in nothing:
            yield f"Best by {_measure(name)}: {trial_name(board, found[name]['trial_id'])}."
    for name in nothing:
        yield f"{first_upper(_measure(name))}: 0 % for all, so it ranks nothing."


def _agreement(board: Leaderboard, found: Figures | None) -> Iterator[str]:
    if not found or found["agrees"]:
        return
    first, second = (trial_name(board, found[key]["trial_id"]) for key in ("loss_first", "metric_first"))
    exact = "" if found["p"] is None else f", exact p {found['p']:.2g}"
    shown = f"{found['metric']} {with_interval(found['difference'], found['interval'])} higher{exact}"
    doubt = "" if (found["interval"] or [0.0])[0] > 0 else "; not significant"
    yield f"Held-out loss and {found['metric']} disagree: by loss {first} is best ({shown} with {second}{doubt})."


def _lost(board: Leaderboard, lost: Figures) -> Iterator[str]:
    if lost["loss"] and sum(lost["loss"].values()):
        counts = _joined((area, str(count)) for area, count in lost["loss"].items())
        yield f"Items worse than with the base model that another setting improves: {counts}"
        widest = _joined(
            (f"{item['area']}/{item['id']}", f"(+{nats(item['gap'])} vs {trial_name(board, item['best'])})")
            for item in lost["items"]
        )
        yield f"The largest of these regressions: {widest}"
    if lost["answer"] and sum(lost["answer"].values()):
        counts = _joined((area, str(count)) for area, count in lost["answer"].items())
        yield f"Items answered wrongly that another setting answers rightly: {counts}"


def _best(board: Leaderboard) -> Figures:
    """The setting that won, by its search trial."""
    pair: Figures = dict(board["winner"] or {})
    return {**pair, "trial_id": board.get("winner_setting") or pair["trial_id"]}


def _measure(name: str) -> str:
    return OTHER_LOSSES.get(name) or metric_label(name)


def _joined(pairs: Any) -> str:
    return " · ".join(f"{name} {value}" for name, value in pairs)
