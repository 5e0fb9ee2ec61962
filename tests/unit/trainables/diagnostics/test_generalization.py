"""Findings from held-out scores: worse while training improves, forgetting; and the paired test behind them."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from tests.unit.trainables.diagnostics.helpers import schedule
from trainables.diagnostics import CurveMonitor, HeldoutPoint, heldout_findings
from trainables.diagnostics.finding import Settings
from trainables.diagnostics.generalization import paired_rise
from trainables.diagnostics.running_stats import Difference
from trainables.evaluation.heldout import ItemScore
from trainables.evaluation.heldout_history import BASELINE_ITEMS, HeldoutEvidence

AREAS = ("tables", "invoices")
ITEMS = 60
GROUPS = {area: [f"{area}-{index // 2}" for index in range(ITEMS)] for area in AREAS}
WEIGHTS = {"tables": 1.0, "invoices": 1.0}
SETTINGS = Settings(schedule(), 1.0)


def fell(*_):
    return Difference(0.5, 0.05, 200.0)


def stood_still(*_):
    return Difference(0.02, 0.05, 200.0)


def items(seed=0, **shift):
    """Losses of all items: difficulty that is the same for every checkpoint, noise that is not, and a shift by area."""
    difficulty, noise = np.random.default_rng(1).gamma(4, 0.5, (2, ITEMS)), np.random.default_rng(seed + 10)
    return {
        area: (difficulty[k] + shift.get(area, 0.0) + noise.normal(0, 0.1, ITEMS)).tolist()
        for k, area in enumerate(AREAS)
    }


def points(*all_items):
    steps = np.linspace(0, 100, len(all_items) + 1)[1:]
    return [HeldoutPoint(int(step), found) for step, found in zip(steps, all_items, strict=True)]


def find(checkpoints, base=None, fall=fell):
    return heldout_findings(checkpoints, base, GROUPS, WEIGHTS, SETTINGS, fall)


def test_held_out_worse_while_training_improves():
    (finding,) = find(points(items(1), items(2, tables=-0.3, invoices=-0.3), items(3)))
    assert (finding["rule"], finding["severity"], finding["step"]) == ("heldout_worse", "warning", 100)
    assert (finding["evidence"]["from_step"], finding["evidence"]["to_step"]) == (66, 100)
    assert finding["evidence"]["heldout_rise_nats"] == pytest.approx(0.3, abs=0.05)
    assert finding["evidence"]["training_fall_nats"] == 0.5
    assert "the checkpoint of step 66" in finding["advice"]
    assert "peak_lr 5.0e-05" in finding["advice"]


@pytest.mark.parametrize(
    ("checkpoints", "fall"),
    [
        pytest.param(points(items(1)), fell, id="one checkpoint"),
        pytest.param(points(items(1), items(2)), fell, id="no change"),
        pytest.param(points(items(1), items(2, tables=-0.3)), fell, id="better"),
        pytest.param(points(items(1), items(2, tables=0.3)), stood_still, id="training did not improve"),
        pytest.param(points(items(1), items(2, tables=0.3)), lambda *_: None, id="training unknown"),
        # The objective is what counts: one area up, the other down as much.
        pytest.param(points(items(1), items(2, tables=0.3, invoices=-0.3)), fell, id="areas cancel"),
        pytest.param(points(items(1), {a: [math.nan] * ITEMS for a in AREAS}), fell, id="not finite"),
    ],
)
def test_held_out_is_not_worse(checkpoints, fall):
    assert find(checkpoints, fall=fall) == []


def test_chance_alone_seldom_alarms():
    """Five checkpoints that differ by noise: at 1 % for all comparisons, 300 trials give more than 10 once in 500."""
    trials = (points(*(items(5 * number + k) for k in range(5))) for number in range(300))
    assert sum(bool(find(checkpoints)) for checkpoints in trials) <= 10


def test_forgetting_names_the_area():
    (finding,) = find(points(items(1, invoices=0.2)), base=items(2))
    assert (finding["rule"], finding["severity"]) == ("forgetting", "warning")
    assert finding["evidence"]["area"] == "invoices"
    assert finding["evidence"]["rise_over_base_nats"] == pytest.approx(0.2, abs=0.05)
    assert finding["advice"].startswith("add training samples that are like invoices, or lower space.peak_lr")
    assert find(points(items(1)), base=items(2)) == []
    assert find(points(items(1, tables=-1.0, invoices=-1.0)), base=items(2)) == []
    assert json.dumps(finding, allow_nan=False)


def test_items_of_one_context_count_as_one():
    """Copies of an item add no evidence: the error is that of a t-test over the contexts."""
    rng = np.random.default_rng(0)
    change = rng.normal(0.1, 0.3, 30)
    after, before = np.repeat(change, 4), np.zeros(120)
    rise = paired_rise(after, before, [f"c{index // 4}" for index in range(120)])
    expected = stats.ttest_1samp(change, 0.0, alternative="greater")
    assert rise.value == pytest.approx(change.mean())
    assert rise.df == expected.df
    assert rise.above_zero_p == pytest.approx(expected.pvalue)
    assert paired_rise([1.0, 2.0], [0.0, 0.0], ["c", "c"]) is None


def test_the_objective_weighs_areas():
    """All weight on the area that did not change."""
    checkpoints = points(items(1), items(2, tables=0.3))
    assert heldout_findings(checkpoints, None, GROUPS, {"tables": 1e-9, "invoices": 1.0}, SETTINGS, fell) == []
    assert heldout_findings(checkpoints, None, GROUPS, {"tables": 1.0, "invoices": 1e-9}, SETTINGS, fell)


def test_training_fall_compares_the_eighths_before_two_steps():
    watched = CurveMonitor(schedule(160), 1.0)
    for step in range(160):
        watched.update(step + 1, 3.0 - step / 160, 0.5, 1e-4, [3.0 - step / 160 + part for part in (-0.1, 0.1)])
    fall = watched.training_fall(80, 160)
    assert fall.value == pytest.approx(0.5)
    assert fall.above_zero_p < 1e-6
    assert watched.training_fall(150, 160) is None
    assert watched.training_fall(1, 160) is None


class Area:
    """As much of a `TokenizedSet` as the evidence reads."""

    ids = tuple(f"i{index}" for index in range(ITEMS))

    def __len__(self):
        return ITEMS

    def group(self, index):
        return f"g{index // 2}"


@pytest.mark.parametrize("has_baseline", [True, False])
def test_evidence_of_a_trial_is_compared_with_the_baselines_file(tmp_path, has_baseline):
    evidence = HeldoutEvidence()
    scored = ((area, enumerate(found)) for area, found in items(1).items())
    evidence.add(100, {area: [ItemScore(area, f"i{i}", nll, 3) for i, nll in found] for area, found in scored})
    if has_baseline:
        lines = [
            {"area": area, "id": f"i{index}", "nll": nll - 0.2 if area == "tables" else nll}
            for area, found in items(2).items()
            for index, nll in reversed(list(enumerate(found)))
        ]
        (tmp_path / BASELINE_ITEMS).parent.mkdir(parents=True)
        (tmp_path / BASELINE_ITEMS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    monitor = SimpleNamespace(settings=SETTINGS, training_fall=fell)
    found = evidence.findings(monitor, {area: Area() for area in AREAS}, WEIGHTS, tmp_path)
    assert [finding["evidence"]["area"] for finding in found] == (["tables"] if has_baseline else [])


def test_a_trial_without_checkpoints_has_no_held_out_findings(tmp_path):
    monitor = SimpleNamespace(settings=SETTINGS, training_fall=fell)
    assert HeldoutEvidence().findings(monitor, {}, WEIGHTS, tmp_path) == []
