"""The replay of sweeps: who is trained when, what is stopped, what is chosen; and the rules that it compares."""

import itertools
import math
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from ray.tune.schedulers import MedianStoppingRule, TrialScheduler

from benchmarks.pruning.__main__ import at_loss, figures, rotated, worse
from benchmarks.pruning.decks import decks, seed_sd, together
from benchmarks.pruning.replay import Recorded, Sweep, recorded_trials, replay
from benchmarks.pruning.rules import heldout, median, never_stop
from benchmarks.recording.__main__ import make_jobs, parse
from benchmarks.recording.curves import DATA, load
from sweeps.pruning.trial_curve import TrialCurve

REPORTS, STEPS = 4, 40


def recorded(row, final, reports=REPORTS, diverged=False, points=None):
    """A trial of four reports, ten steps each; `points` is its held-out objective at each."""
    points = points or [final] * reports
    stages = tuple(
        TrialCurve(
            trial_id=str(row),
            seed=0,
            nll=np.zeros(at),
            lr=np.ones(REPORTS),
            warmup_samples=0,
            heldout={k + 1: points[k] for k in range(at)},
            objective=final if at == REPORTS and not diverged else None,
        )
        for at in range(1, reports + 1)
    )
    return Recorded(stages, tuple(10 * at for at in range(1, reports + 1)), STEPS, diverged, {"peak_lr": 1.0}, row)


GOOD, FAIR, POOR = recorded(0, 1.0), recorded(1, 1.2), recorded(2, 2.0)
BROKEN = recorded(3, math.inf, reports=1, diverged=True)


def test_with_nobody_to_stop_them_all_trials_run_and_the_best_is_chosen():
    found = replay([POOR, BROKEN, GOOD], 2, never_stop())
    assert found == Sweep((40, 10, 40), (False, False, False), 1.0)
    assert replay([BROKEN], 2, never_stop()).chosen == math.inf


def test_the_rule_is_asked_at_every_report_but_the_last_and_given_what_is_known_then():
    asked = []

    def rule(trial, finished, siblings):
        running = [(other.trial_id, other.seen) for other in siblings]
        asked.append((trial.trial_id, trial.seen, [other.trial_id for other in finished], running))
        return trial.trial_id == "2" and trial.seen == 2

    found = replay([GOOD, BROKEN, POOR, FAIR], 2, rule)
    assert found == Sweep((40, 10, 20, 40), (False, False, True, False), 1.0)
    assert asked == [
        ("0", 1, [], []),  # the other has just diverged, and is neither finished nor running
        ("0", 2, [], [("2", 1)]),
        ("2", 1, [], [("0", 2)]),
        ("0", 3, [], [("2", 2)]),
        ("2", 2, [], [("0", 3)]),
        ("1", 1, ["0"], []),  # took the stopped trial's lane
        ("1", 2, ["0"], []),
        ("1", 3, ["0"], []),
    ]


def test_paused_trials_wait_for_the_last_and_the_best_go_on():
    # Eight trials, of which four are trained to the end: the first, and the best three where they paused.
    early = [5.0, 1.0, 9.0, 3.0, 2.0, 9.0, 9.0]
    # Their ids are those of the recording, not their places in the sweep.
    trials = [recorded(10, 1.5), *(recorded(10 + k, 7.0 - k, points=[one] * REPORTS) for k, one in enumerate(early, 1))]
    for lanes, intervals in ((1, 4 + 7 + 3 * 3), (8, 4 + 3)):
        found = replay(trials, lanes, never_stop(), pauses=True)
        assert found == Sweep((40, 10, 40, 10, 40, 40, 10, 10), (False,) * 8, 1.5)
        assert found.intervals == intervals
    assert replay(trials[:5], 2, never_stop(), pauses=True).executed == (40,) * 5


def test_a_diverged_or_stopped_trial_does_not_go_on():
    trials = [BROKEN, *(recorded(k, float(k)) for k in range(1, 7)), recorded(7, 0.5, reports=1, diverged=True)]

    def rule(trial, _finished, _siblings):
        return trial.trial_id == "1"

    found = replay(trials, 2, rule, pauses=True)
    assert found.executed == (10, 20, 40, 40, 40, 10, 10, 10)  # asked first after the pause
    assert found.chosen == 2.0


def test_the_evidence_rule_compares_trials_of_one_seed_only():
    ((_, trials, _),) = rotated([("low (0) 0", [GOOD, FAIR, POOR], 0.1)], 2)
    assert [{stage.seed for stage in trial.stages} for trial in trials] == [{0}, {1}, {0}]


def test_what_a_rule_saves_and_loses_is_counted():
    cases = [("low (0) 0", [GOOD, FAIR, BROKEN], 0.1), ("low (0) 1", [FAIR, GOOD], 0.3)]
    sweeps = [Sweep((20, 40, 10), (True, False, False), 1.2), Sweep((40, 10), (False, True), 1.2)]
    assert worse(cases, sweeps) == [True, False]  # 0.2 worse is more than 0.1, and less than 0.3
    found = figures(cases, sweeps)
    assert found["executed"]["ratio"] == pytest.approx(120 / 200)
    assert found["executed_of_stable"]["ratio"] == pytest.approx(110 / 160, abs=1e-3)
    assert found["worse_choices"]["value"] == 0.5
    # Scored after half the epoch, and after all of it: 1 + 2 + 0, and 2 + 0 times; twice each is 10.
    spent = figures(cases, sweeps, False, sweeps)["device_seconds"]
    assert spent["0"] == pytest.approx(120 / 200)
    assert spent["0.2"] == pytest.approx(160 / 280, abs=1e-4)
    # With pauses a third time after a quarter: five trials more.
    assert figures(cases, sweeps, True, sweeps)["device_seconds"]["0.2"] == pytest.approx(
        (120 + 10 * 8) / (200 + 80), abs=1e-4
    )


def test_the_others_are_judged_by_their_cheapest_parametrization_at_the_loss_allowed():
    cases = [("low (0) 0", [GOOD, FAIR], 0.1)]
    ours = [Sweep((40, 20), (False, True), 1.0)]
    others = {
        "reckless": [Sweep((10, 40), (True, False), 1.2)],
        "wary": [Sweep((40, 30), (False, True), 1.0)],
        "idle": [Sweep((40, 40), (False, False), 1.0)],
    }
    found = at_loss(cases, ours, others, 0.0)
    assert found["parametrization"] == "wary"
    assert found["our_steps_over_its"]["ratio"] == pytest.approx(60 / 70, abs=1e-3)
    assert at_loss(cases, ours, others, 1.0)["parametrization"] == "reckless"
    assert at_loss(cases, ours, {"reckless": others["reckless"]}, 0.0) is None


@pytest.mark.parametrize("lanes", [1, 3])
def test_the_median_rule_is_ray_tunes(lanes):
    draw = np.random.default_rng(0)
    values = draw.normal(size=(12, REPORTS)).cumsum(axis=1)
    trials = [recorded(row, float(line[-1]), points=line.tolist()) for row, line in enumerate(values)]
    scheduler = MedianStoppingRule("percent", "metric", "min", grace_period=50, min_samples_required=2)
    controller = SimpleNamespace(get_live_trials=list)

    def theirs(trial, _finished, _siblings):
        result = {"percent": 100 * trial.seen / trial.samples, "metric": heldout(trial)}
        known = stubs.setdefault(trial.trial_id, Mock(spec_set=["trial_id"], trial_id=trial.trial_id))
        return scheduler.on_trial_result(controller, known, result) == TrialScheduler.STOP

    stubs = {}
    expected = replay(trials, lanes, theirs)
    assert replay(trials, lanes, median(heldout, 50, 2)) == expected
    assert 0 < sum(expected.stopped) < len(trials)


def test_recorded_trials_are_read_as_their_loop_would():
    curves = load(DATA / "curves_tiny.npz")
    trials = recorded_trials(curves, curves.study == "high")
    diverged = [trial for trial in trials if trial.diverged]
    assert 0 < len(diverged) < len(trials)
    assert all(trial.stages[-1].objective is None and trial.steps[-1] < trial.steps_planned for trial in diverged)
    whole = next(trial for trial in trials if not trial.diverged)
    assert whole.steps[-1] == whole.steps_planned == 50
    assert len(whole.stages) >= 20
    assert whole.objective == pytest.approx(curves.objective[whole.row, -1])
    assert [len(stage.nll) for stage in whole.stages] == [step * curves.batch_size for step in whole.steps]
    assert list(whole.stages[2].heldout) == [24]  # 12.5 % of 200 samples, by the nearest step


def test_decks_hold_each_trial_once_and_know_what_a_seed_is_worth():
    curves = load(DATA / "grid_tiny.npz")
    found = decks(curves)
    regimes = itertools.product(("low", "middle", "high"), range(3))
    assert {(deck.regime, deck.order) for deck in found} == set(regimes)
    mixed = [[trial.row for trial in deck.trials] for deck in together(found)]
    assert [len(set(rows)) for rows in mixed] == [len(rows) for rows in mixed] == [96] * 3
    settings = np.unique(curves.params, axis=0)
    peak = settings[30, 0]
    finals = curves.objective[:, -1]
    groups = [finals[np.all(curves.params == setting, axis=1)] for setting in settings if setting[0] == peak]
    assert seed_sd(curves, peak) == pytest.approx(np.sqrt(np.mean([group.var(ddof=1) for group in groups])))


def test_a_recording_that_is_cut_short_holds_as_much_of_each_study(tmp_path, monkeypatch):
    line = f"record_curves record --data {tmp_path} --to x.npz --trials 5 --seeds 2 --seeded-peaks 1e-3"
    monkeypatch.setattr("sys.argv", line.split())
    jobs = make_jobs(parse())
    assert [job.study for job in jobs[:8]] == ["middle", "high", "low", "seeds"] * 2
    assert [job.study for job in jobs[8:]] == ["middle", "high", "low"] * 3
    assert len({job.key for job in jobs}) == len(jobs)
