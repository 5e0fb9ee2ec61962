"""What a leaderboard says of its metrics, trials and areas, for the texts that are made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from analysis.output.formats import every_row, measure_of
from analysis.output.leaderboard import Figures, Leaderboard
from trainables.evaluation.objective import LABELS

# Of an area's figures; what else stands there is a scorer of the user's.
KNOWN_FIGURES = ("nll", "exact_match", "token_f1", "items", "cut_answers", "delta", "delta_interval")
# How a trial can end, for the reader.
STATES = {"complete": "completed", "pruned": "stopped early", "diverged": "diverged", "failed": "failed"}


def counted(board: Leaderboard) -> str:
    """The trials by how they ended: `3 trials completed`, `4 trials: 3 completed, 1 diverged`."""
    counts = state_counts(board)
    total = counts.total()
    if not total:
        return "no trial has finished"
    trials = f"{total} trial{'s' if total > 1 else ''}"
    if len(counts) == 1:
        return f"{trials} {STATES[next(iter(counts))]}"
    return f"{trials}: {', '.join(f'{count} {STATES[state]}' for state, count in sorted(counts.items()))}"


def best(board: Leaderboard) -> str:
    """The end of the deciding metric that wins: `lowest` or `highest`."""
    return "highest" if measure_of(board).higher_is_better else "lowest"


def metric_label(name: str) -> str:
    """A metric's name for the reader."""
    # A scorer of the user's is named module:function.
    return LABELS.get(name, name.rpartition(":")[2].replace("_", " "))


def first_upper(text: str) -> str:
    """The text with its first letter in upper case; `str.capitalize` would make "token F1" "Token f1"."""
    return text[:1].upper() + text[1:]


def answer_metrics(board: Leaderboard) -> list[str]:
    """The metrics of generated answers that the board has: exact match, then the user's own scorers."""
    found = [board["baseline"].get("areas") or {}, *(row.get("areas") or {} for row in board["rows"])]
    figures = [one for areas in found for one in areas.values()]
    own = {name for one in figures for name in own_scorers(one)}
    names = ["exact_match"] if any(one.get("exact_match") is not None for one in figures) else []
    return [*names, *sorted(own)]


def own_scorers(figures: Mapping[str, object]) -> list[str]:
    """The user's own scorers among an area's figures."""
    return sorted(name for name in figures if name not in KNOWN_FIGURES)


def mean_of(board: Leaderboard, areas: Mapping[str, Figures], name: str) -> float | None:
    """A metric's mean by weight over the areas that have it for the base model; None where one of these lacks it."""
    base = board["baseline"].get("areas") or {}
    members = [area for area in board["weights"] if (base.get(area) or {}).get(name) is not None]
    values = [(areas.get(area) or {}).get(name) for area in members or board["weights"]]
    weights = [board["weights"][area] for area in members or board["weights"]]
    if None in values or not values:
        return None
    return sum(w * float(v or 0.0) for w, v in zip(weights, values, strict=True)) / sum(weights)


def best_checkpoint(board: Leaderboard) -> Figures:
    """The figures of the checkpoint that won; those of its row in boards that keep none of checkpoints."""
    pair = board["winner"]
    for row in every_row(board):
        if pair and row["trial_id"] == pair["trial_id"]:
            points = row.get("checkpoints") or []
            return next((c for c in points if c.get("step") == pair["step"] and "areas" in c), dict(row))
    return {}


def cut_answers(areas: Mapping[str, Figures]) -> dict[str, tuple[int, int]]:
    """By area, how many answers had not ended after `max_new_tokens`, and of how many; only areas that have any."""
    known = {area: figures.get("cut_answers") for area, figures in sorted(areas.items())}
    return {area: (count, int(areas[area]["items"])) for area, count in known.items() if count}


def regressions(board: Leaderboard) -> dict[str, float]:
    """By area, how much worse than the base model the best setting is, where that is established."""
    row, found = board["rows"][0], {}
    rails = row.get("guard_rails") or {}
    for area, figures in (row.get("areas") or {}).items():
        interval = figures.get("delta_interval")
        if rails[area]["outcome"] == "fail" if area in rails else bool(interval and interval[0] > 0):
            found[area] = float(figures["delta"] if area not in rails else rails[area]["delta"])
    return found


def state_counts(board: Leaderboard) -> Counter[str]:
    """The number of trials, replicates among them, by how they ended."""
    return Counter(row["state"] for row in every_row(board))
