"""Stop or go: a table of cases on a synthetic sweep in which high LRs win back late."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sweeps.pruning.decision import decide, predicted_final
from sweeps.pruning.dominance import LEVEL
from sweeps.pruning.trial_curve import TrialCurve, read_curve
from trainables.optim.lr_schedule import LRSchedule

SAMPLES, PER_STEP = 400, 4
STEPS = SAMPLES // PER_STEP
DIFFICULTY = 0.6 * np.random.default_rng(0).normal(size=SAMPLES)  # of each sample, for all trials alike
BASE = 3.0


def trial(name, peak, *, quality=0.0, seed=0, end=1.0, own=0.02, findings=()):
    """A trial that ends at 2 + quality; while the LR is high its loss is higher, by 0.4 for a peak of 1e-3."""
    draw = np.random.default_rng([len(name), *map(ord, name)])
    schedule = LRSchedule(peak_lr=peak, floor_lr=peak / 20, steps=STEPS, warmup_steps=8)
    lr = np.repeat([schedule.lr(step) for step in range(STEPS)], PER_STEP)
    nll = 2.0 + quality + 400.0 * lr + DIFFICULTY * 0.2 + own * draw.normal(size=SAMPLES)
    final = 2.0 + quality + 0.01 * draw.normal()
    seen = round(end * SAMPLES)
    return TrialCurve(
        trial_id=name,
        seed=seed,
        nll=nll[:seen],
        lr=lr,
        warmup_samples=8 * PER_STEP,
        objective=final if end == 1.0 else None,
        findings=findings,
    )


PEAKS = np.geomspace(1e-4, 2e-3, 10)
FINISHED = [trial(f"t{i}", peak, quality=0.05 * (i % 4)) for i, peak in enumerate(PEAKS)]
WSD = [replace(one, decay=("wsd", 0.2)) for one in FINISHED]
RISE = {"rule": "steady_rise", "severity": "warning", "step": 20, "evidence": {"slope": 0.1}}
NAN = {"rule": "non_finite", "severity": "error", "step": 3, "evidence": {"loss": "nan"}}


@pytest.mark.parametrize(
    ("running", "finished", "rule"),
    [
        (trial("bad", 5e-4, quality=0.5, end=0.4), FINISHED, "dominated"),
        (trial("bad", 5e-4, quality=0.5, end=0.4), FINISHED[1:6], "dominated"),
        (trial("bad", 5e-4, quality=0.2, end=0.4), FINISHED[4:7], None),  # too few to learn from
        (trial("bad", 5e-4, quality=3.0, end=0.4), FINISHED[4:7], "dominated"),  # and yet out of reach
        (trial("bad", 5e-4, quality=3.0, end=0.4), FINISHED[4:5], "dominated"),
        (trial("bad", 5e-4, quality=3.0, end=0.6), FINISHED[4:5], None),  # too late for that
        (trial("bad", 1e-1, quality=0.5, end=0.2), FINISHED, "dominated"),  # 30 times the best LR
        (trial("bad", 5e-4, quality=0.5, end=0.4), [], None),
        # A schedule of another shape, which decays at another time:
        (replace(trial("bad", 5e-4, quality=3.0, end=0.4), decay=("wsd", 0.2)), FINISHED, None),
        (replace(trial("bad", 5e-4, quality=0.5, end=0.4), decay=("wsd", 0.2)), WSD, "dominated"),
        (replace(trial("bad", 5e-4, quality=0.5, end=0.4), decay=("wsd", 0.4)), WSD, None),
        (trial("late", 1.9e-3, end=0.4), FINISHED, None),  # 0.3 behind now, and wins it back
        (trial("good", 5e-4, end=0.4), FINISHED, None),
        (trial("bad", 5e-4, quality=9.0, end=0.08), FINISHED, None),  # in warm-up, however bad
        (trial("bad", 5e-4, quality=9.0, end=0.12), FINISHED, None),  # the window still holds warm-up
        (trial("bad", 5e-4, quality=9.0, end=0.2), FINISHED, "dominated"),
        (trial("bad", 5e-4, quality=0.5, end=0.4, seed=1), FINISHED, None),  # other samples, so no pairs
        (trial("far", 1e-2, quality=-3.0, end=0.4), FINISHED, None),  # an LR of which nothing was learnt
        (trial("far", 2e-5, quality=0.5, end=0.4), FINISHED, None),
        (trial("rising", 5e-4, end=0.4, findings=[RISE]), [], "steady_rise"),
        (trial("rising", 5e-4, end=0.08, findings=[RISE]), [], None),
        (trial("broken", 5e-4, end=0.01, findings=[NAN]), [], "non_finite"),
    ],
)
def test_which_trials_are_stopped(running, finished, rule) -> None:
    found = decide(running, finished)
    assert (found.stop, found.rule) == (rule is not None, rule)
    json.dumps(found.evidence, allow_nan=False)


def test_a_loss_that_is_not_finite_stops_even_without_a_finding() -> None:
    broken = trial("b", 5e-4, end=0.3)
    nll = broken.nll.copy()
    nll[40] = np.inf
    assert decide(replace(broken, nll=nll), []).evidence == {"sample": 40, "loss": "inf"}


def test_every_decision_on_dominance_carries_its_numbers() -> None:
    for quality in (0.0, 0.5):
        running = trial("x", 5e-4, quality=quality, end=0.4)
        found = decide(running, FINISHED)
        numbers = found.evidence
        best = min(FINISHED, key=lambda peer: peer.objective)
        differences = running.nll[140:160] - best.nll[140:160]
        assert (numbers["best"], numbers["best_objective"]) == (best.trial_id, best.objective)
        assert numbers["gap"] == pytest.approx(differences.mean())
        assert numbers["gap_standard_error"] == pytest.approx(differences.std(ddof=1) / np.sqrt(20))
        assert (numbers["fraction"], numbers["finished"], numbers["level"]) == (0.4, 10, LEVEL)
        assert found.stop == (numbers["gap"] > numbers["catch_up_bound"])
        assert numbers["predicted_final"] == pytest.approx(2.0 + quality, abs=4 * numbers["prediction_sd"])


def test_the_margin_is_wider_where_the_decay_wins_back_more_in_whatever_order_trials_finished() -> None:
    bounds = [decide(trial("x", peak, end=0.4), FINISHED).evidence["catch_up_bound"] for peak in (1e-4, 6e-4, 2e-3)]
    assert bounds == sorted(bounds)
    assert bounds[-1] - bounds[0] > 0.3
    running = trial("x", 5e-4, quality=0.1, end=0.4)
    assert decide(running, FINISHED).evidence == pytest.approx(decide(running, FINISHED[::-1]).evidence)


def test_a_running_trial_that_will_end_ahead_dominates_too_and_an_improvement_worth_nothing_is_none() -> None:
    running = trial("x", 5e-4, quality=0.0, end=0.4)
    ahead, behind = trial("ahead", 5e-4, quality=-0.5, end=0.5), trial("behind", 5e-4, quality=-0.5, end=0.3)
    found = decide(running, FINISHED, [ahead, behind])
    assert (found.rule, found.evidence["running_best"]) == ("dominated", "ahead")
    assert not decide(running, FINISHED, [behind]).stop  # it has not come as far
    assert not decide(ahead, FINISHED, [running]).stop
    assert not decide(running, [], [ahead]).stop  # nothing is learnt from running trials
    near = trial("x", 5e-4, quality=0.02, end=0.4)
    assert [decide(near, FINISHED, worth=worth).stop for worth in (0.0, 0.2)] == [False, True]


def test_a_held_out_point_that_all_have_is_used() -> None:
    """Where running losses tell nothing of the end, the checkpoint in the middle does."""

    def with_point(curve, value):
        return replace(curve, heldout={160: value})

    draw = np.random.default_rng(4)
    peers = []
    for i in range(12):
        value = float(draw.normal())
        peers.append(with_point(replace(trial(f"p{i}", 5e-4 * (1 + i % 3)), objective=2 + value), value))
    bad = with_point(trial("x", 5e-4, end=0.45), 1.5)
    assert decide(bad, peers).evidence["predicted_final"] == pytest.approx(3.5, abs=0.05)
    assert decide(bad, peers).stop
    assert not decide(bad, [*peers[1:], replace(peers[0], heldout={})]).stop


@pytest.mark.parametrize("broken", [{"objective": None}, {"objective": float("nan")}, {"nll": FINISHED[0].nll[:-1]}])
def test_a_finished_trial_must_be_whole(broken) -> None:
    with pytest.raises(ValueError, match="whole curve"):
        decide(trial("x", 5e-4, end=0.4), [replace(FINISHED[0], **broken)])


# --- what a stopped trial is put down with


def test_the_predicted_final_is_conservative() -> None:
    finals = []
    for quality in (0.1, 0.3, 0.5):
        running = trial("x", 5e-4, quality=quality, end=0.4)
        evidence = decide(running, FINISHED).evidence
        finals.append(predicted_final(running, FINISHED, BASE))
        assert finals[-1] == pytest.approx(evidence["predicted_final"] + evidence["prediction_sd"])
        assert finals[-1] > 2.0 + quality - 0.05
    assert finals == sorted(finals)


@pytest.mark.parametrize(
    ("running", "finished", "base", "expected"),
    [
        (trial("x", 5e-4, quality=0.5, end=0.4), [], BASE, BASE),
        (trial("x", 5e-4, quality=0.5, end=0.05), FINISHED, BASE, BASE),
        (trial("x", 5e-4, quality=5.0, end=0.4), FINISHED, BASE, BASE),
        (trial("x", 5e-4, quality=0.5, end=0.4, findings=[RISE]), FINISHED, BASE, BASE),
        (trial("x", 5e-4, quality=-0.5, end=0.4), FINISHED, BASE, min(peer.objective for peer in FINISHED)),
        (trial("x", 5e-4, quality=0.5, end=0.4), FINISHED, 1.0, min(peer.objective for peer in FINISHED)),
    ],
)
def test_the_predicted_final_stays_between_the_best_and_the_base_model(running, finished, base, expected) -> None:
    assert predicted_final(running, finished, base) == pytest.approx(expected)


# --- reading a curve


def test_a_curve_is_read_from_its_lines() -> None:
    schedule = LRSchedule(peak_lr=1e-3, floor_lr=1e-4, steps=3, warmup_steps=1)
    lines = [{"step": 1, "item_nll": [3.0, 2.0]}, {"step": 2, "item_nll": [1.0, 0.5]}]
    found = read_curve("t", 7, schedule, 5, 2, lines, heldout={1: 2.5, 3: 2.0})
    assert found.nll.tolist() == [3.0, 2.0, 1.0, 0.5]
    assert found.lr.tolist() == [schedule.lr(step) for step in (0, 0, 1, 1, 2)]
    assert (found.samples, found.seen, found.warmup_samples, found.heldout) == (5, 4, 2, {2: 2.5, 5: 2.0})


@pytest.mark.parametrize("steps", [[2], [1, 3], [1, 1]])
def test_a_curve_with_missing_steps_is_refused(steps) -> None:
    schedule = LRSchedule(peak_lr=1e-3, floor_lr=1e-4, steps=3, warmup_steps=1)
    with pytest.raises(ValueError, match="steps must be"):
        read_curve("t", 7, schedule, 5, 2, [{"step": step, "item_nll": [1.0]} for step in steps])
