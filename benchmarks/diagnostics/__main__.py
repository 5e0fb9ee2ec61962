"""How far the diagnostics can be trusted: precision and recall of each rule, false alarms, variances, planted answers.

- Synthetic curves and held-out scores with a known truth: precision and recall of every rule.
- Recorded curves of real trials: the LR rules against labels by the setting's held-out gain, each other rule against
  held-out losses that it doesn't see, or the setting's other seeds.
- Healthy recorded curves, resampled in blocks around a level that never rises: false alarms of the steady rise.
- Trials worse than their base model: when the rule speaks, with beta and on the raw difference; how often wrongly.
- The variance of a sample's loss, minus the base's, minus beta times the base's, minus a sibling trial's, by quarter.
- One in twenty answers exchanged within its kind: precision of `analysis.suspects.scores` at that depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser, print_result, say
from benchmarks.diagnostics.ground_truth import findings_of, truths
from benchmarks.diagnostics.heldout import heldout_counts
from benchmarks.diagnostics.planted import answer_kinds, planted_precision
from benchmarks.diagnostics.recorded import (
    label,
    read,
    resampled,
    samples_of,
    settings_of,
    siblings,
    variances,
    worse_at,
)
from benchmarks.diagnostics.rule_counts import RuleCounts
from benchmarks.diagnostics.synthetic import CLASSES, precision_and_recall
from benchmarks.intervals import bootstrap, proportion
from benchmarks.recording.curves import DATA, Curves, load

FALSE_ALARMS_ALLOWED = 0.02
PLANTED_WANTED = 0.5
STOPPED_WITHIN = 0.2
TOO_HIGH = {"non_finite", "divergence", "worse_than_base", "steady_rise", "grad_norm_growing"}
TOO_LOW = {"barely_moving", "still_falling"}
KINDS = ("loss", "minus base", "minus beta x base", "minus sibling")


def main() -> None:
    command = parser("diagnostics", str(__doc__).split("\n")[0], "--curves 100 --resamples 400")
    command.add_argument("--curves", type=int, default=100, help="synthetic curves of each class")
    command.add_argument("--resamples", type=int, default=400, help="resampled healthy curves of each recording")
    command.add_argument(
        "--recordings", type=Path, nargs="*", default=sorted(DATA.glob("*.npz")), help="recorded curves"
    )
    given = command.parse_args()
    result: dict[str, Any] = {"classes": sorted(CLASSES), "synthetic": {}}
    for name, with_base in (("with base losses", True), ("without", False)):
        say(f"synthetic curves {name}")
        counted = precision_and_recall(given.curves, with_base)
        result["synthetic"][name] = {rule: counts.summary() for rule, counts in counted.items()}
    result["synthetic"]["held out"] = {rule: one.summary() for rule, one in heldout_counts(given.curves).items()}
    result["recorded"], result["planted"] = {}, {}
    for file in given.recordings:
        say(f"recording {file.name}")
        curves = load(file)
        if (curves.study != "planted").any():
            result["recorded"][file.stem] = recorded(curves.of(curves.study != "planted"), given.resamples)
        if (curves.study == "planted").any():
            result["planted"][file.stem] = planted(curves.of(curves.study == "planted"))
    print_result(result)


def recorded(curves: Curves, resamples: int) -> dict[str, Any]:
    """All figures of a recording without planted answers."""
    settings = settings_of(curves)
    labels = label(settings)
    healthy = {trial for trial, name in labels.items() if name == "healthy" and curves.state[trial] == "complete"}
    return {
        "trials": len(curves.study),
        "labels": {name: sum(value == name for value in labels.values()) for name in sorted(set(labels.values()))},
        "rules": rules_on_recorded(curves, labels),
        "worse than base": worse_than_base(curves, labels),
        "steady rise, healthy resampled": false_alarms(curves, sorted(healthy), resamples),
        "variance by quarter": variance_table(curves, list(siblings(curves, healthy))),
    }


def rules_on_recorded(curves: Curves, labels: dict[int, str]) -> dict[str, Any]:
    """Precision and recall of each rule, and of the LR rules together, against labels and truths.

    After a rule has ended a trial, rules that had not spoken by then count neither way.
    """
    known = truths(curves)
    counts = {name: RuleCounts() for name in ("LR too high", "LR too low", *known)}
    by_rule: dict[str, dict[str, int]] = {}
    for trial in range(len(curves.study)):
        found = findings_of(curves, trial, _level(curves, trial))
        spoken, ended = {one["rule"] for one in found}, any(one["severity"] == "error" for one in found)
        for rule in spoken:
            group = by_rule.setdefault(rule, {})
            group[labels.get(trial, "between")] = group.get(labels.get(trial, "between"), 0) + 1
        if trial in labels:
            counts["LR too high"].add(bool(spoken & TOO_HIGH), labels[trial] == "too high")
            counts["LR too low"].add(bool(spoken & TOO_LOW), labels[trial] == "too low")
        for rule, there in known.items():
            truth = there[trial]
            if truth is not None and (rule in spoken or not ended):
                counts[rule].add(rule in spoken, truth)
    return {**{name: one.summary() for name, one in counts.items()}, "spoke, by label": by_rule}


def worse_than_base(curves: Curves, labels: dict[int, str]) -> dict[str, Any]:
    """When `worse_than_base` speaks, with the fitted beta and with beta 1, and how often wrongly.

    The recording ended no trial for this rule. The gain that a setting reached, as part of the best one's, is the cost
    of ending its trials.
    """
    gains = {trial: setting.gain for setting in settings_of(curves) for trial in setting.trials}
    best = max(gains.values())
    table: dict[str, Any] = {}
    for name, raw in (("with beta", False), ("raw loss - base", True)):
        places = [worse_at(curves, trial, _level(curves, trial), raw=raw) for trial in range(len(curves.study))]
        high = [place for trial, place in enumerate(places) if labels.get(trial) == "too high"]
        spoken = [place for place in high if place is not None]
        ended = [gains[trial] for trial, place in enumerate(places) if place is not None]
        others = [place is not None for trial, place in enumerate(places) if labels.get(trial) != "too high"]
        table[name] = {
            "of LR too high": proportion(len(spoken), len(high)),
            "within 20 % of the epoch": proportion(sum(place <= STOPPED_WITHIN for place in spoken), len(high)),
            "part of the epoch, median": round(float(np.median(spoken)), 4) if spoken else None,
            "of others": proportion(sum(others), len(others)),
            "highest gain of a setting that was ended": round(max(ended, default=0.0) / best, 4),
        }
    return table


def false_alarms(curves: Curves, healthy: Sequence[int], resamples: int) -> dict[str, Any]:
    """Rate of steady rises on resampled healthy curves, with base losses and without."""
    if not healthy:
        return {"curves": 0}
    draw, alarms = np.random.default_rng(31), {"with base losses": 0, "without": 0}
    for number in range(resamples):
        trial = healthy[number % len(healthy)]
        samples = resampled(samples_of(curves, trial), draw)
        for name, level in (("with base losses", _level(curves, trial)), ("without", None)):
            spoken = {finding["rule"] for finding in read(samples, curves.schedule(trial), level)}
            alarms[name] += "steady_rise" in spoken
    return {
        "from trials": len(healthy),
        "allowed": FALSE_ALARMS_ALLOWED,
        **{name: proportion(found, resamples) for name, found in alarms.items()},
        "met": max(alarms.values()) <= FALSE_ALARMS_ALLOWED * resamples,
    }


def variance_table(curves: Curves, pairs: Sequence[tuple[int, int | None]]) -> dict[str, Any]:
    """Median variances over complete trials, with intervals."""
    if len(pairs) < 2:
        return {"trials": len(pairs)}
    found = np.array([variances(curves, *pair) for pair in pairs])  # (trials, kinds, quarters)
    table: dict[str, Any] = {"trials": len(pairs)}
    for row, kind in enumerate(KINDS[: found.shape[1]]):
        table[kind] = [bootstrap("value", np.median, quarter) for quarter in found[:, row].T]
    return table


def planted(curves: Curves) -> dict[str, Any]:
    """Precision at the planted depth by number of trials, and the variances."""
    most = max(np.unique(curves.data, return_counts=True)[1].tolist())
    kinds = {data: answer_kinds(curves, data) for data in sorted(set(curves.data.tolist()))}
    share = float(curves.planted[[curves.sets.index(data) for data in kinds]].mean())
    table: dict[str, Any] = {"wanted": PLANTED_WANTED, "part planted": round(share, 4)}
    for trials in range(1, most + 1):
        for name, less_base in (("as listed", False), ("less the base's part", True)):
            found = [planted_precision(curves, data, kind, trials, less_base=less_base) for data, kind in kinds.items()]
            known = np.array([value for value in found if value is not None])
            if len(known) > 1:
                table[f"{trials} trials, {name}"] = mean_with_interval(known)
    without_sibling = [(trial, None) for trial in np.flatnonzero(curves.state == "complete").tolist()]
    return {**table, "variance by quarter": variance_table(curves, without_sibling)}


def mean_with_interval(values: np.ndarray) -> dict[str, Any]:
    figure = bootstrap("value", np.mean, values)
    return {**figure, "plantings": len(values), "met": bool(values.mean() >= PLANTED_WANTED)}


def _level(curves: Curves, trial: int) -> float:
    return float(curves.base_item_nll[curves.sets.index(str(curves.data[trial]))].mean())


if __name__ == "__main__":
    main()
