"""Which synthetic curves each rule speaks of, and which not."""

import math
import pickle

import numpy as np
import pytest

from tests.unit.trainables.diagnostics.helpers import draw, named, only, rules, schedule
from trainables.diagnostics import CurveMonitor
from trainables.diagnostics.curve_state import Curve
from trainables.diagnostics.finding import Settings
from trainables.diagnostics.steady_rise import LOOKS, steady_rise

SEEDS = range(40)


def settled(part: float) -> float:
    return 1.2 + 1.5 * math.exp(-12 * part)


def rising_at_peak(part: float) -> float:
    """Falls in the warm-up, rises while the LR is at peak, falls with it."""
    return 2.0 + 4.0 * min(max(part - 0.05, 0.0), 0.25) - 0.5 * max(0.0, part - 0.3)


def share(level, rule, seeds=SEEDS, lr=None, **settings) -> float:
    return float(np.mean([rule in rules(draw(level, lr or schedule(), seed=seed, **settings)) for seed in seeds]))


EXACT = {"seeds": range(5), "sd": 0.01, "beta": 0.0}
ALWAYS_OR_NEVER = {
    "too few samples": (lambda x: 2 + 9 * x, "steady_rise", {"seeds": range(10), "lr": schedule(20), "batch": 1}, 0),
    "a certain rise by a hundredth of the level": (lambda x: 2 + 0.06 * x, "steady_rise", {**EXACT, "sd": 0.001}, 0),
    "a certain rise by more": (lambda x: 2 + 0.4 * x, "steady_rise", {**EXACT, "sd": 0.001}, 1),
    "a rise after the peak": (lambda x: 2 + 2 * max(0, x - 0.35), "steady_rise", EXACT, 0),
    "a peak that lasts": (lambda x: 2 + 2 * max(0, x - 0.35), "steady_rise", {**EXACT, "lr": schedule(shape="wsd")}, 1),
    "a jump that stays up": (lambda x: 2 + 1.5 * (x >= 0.04), "warmup_spike", {}, 0),
    "a late spike": (lambda x: 2 + 1.5 * (0.6 <= x < 0.65), "warmup_spike", {}, 0),
    "flat": (lambda _: 2.0, "warmup_spike", {}, 0),
    "settled": (settled, "warmup_spike", {}, 0),
    # Without base losses so few samples can't exclude a fall of 5 %.
    "noise is no standstill": (lambda _: 2.8, "barely_moving", {"with_base": False, "sd": 1.0}, 0),
    "no base losses": (lambda _: 9.0, "worse_than_base", {"with_base": False}, 0),
    # High for 3 steps, so much that the mean since the warm-up stays above the base model after the spike.
    "a spike that comes back": (lambda x: 9.0 if 0.05 <= x < 0.08 else 2.0, "worse_than_base", {}, 0),
    "worse after the warm-up": (lambda x: 9.0 if x >= 0.05 else 2.0, "worse_than_base", {}, 1),
    "worse in the warm-up only": (lambda x: 9.0 if x < 0.05 else 2.0, "worse_than_base", {}, 0),
}


@pytest.mark.parametrize(("level", "rule", "settings", "expected"), ALWAYS_OR_NEVER.values(), ids=ALWAYS_OR_NEVER)
def test_curves_on_which_a_rule_always_or_never_speaks(level, rule, settings, expected):
    assert share(level, rule, **settings) == expected


@pytest.mark.parametrize("with_base", [True, False])
def test_a_steady_rise_at_peak_is_seen_at_one_of_four_looks(with_base):
    found = [draw(rising_at_peak, schedule(), seed=seed, with_base=with_base) for seed in SEEDS]
    assert np.mean(["steady_rise" in rules(one) for one in found]) >= (0.95 if with_base else 0.85)
    peak = Settings(schedule(), 1.0).peak_steps
    looks = [peak.start + math.ceil(look * len(peak) / 20) for look in LOOKS]
    for one in found:
        if "steady_rise" in rules(one):
            finding = only(one, "steady_rise")
            assert finding["severity"] == "warning"
            assert finding["step"] == looks[finding["evidence"]["look"] - 1]
            assert finding["evidence"]["p"] < finding["evidence"]["alpha"] <= 0.005
            assert finding["evidence"]["rise_nats"] > 0
            assert ("beta" in finding["evidence"]) is with_base
            assert finding["advice"] == "lower space.peak_lr: try peak_lr 5.0e-05 (half of this trial's)"


@pytest.mark.parametrize("with_base", [True, False])
def test_flat_curves_alarm_in_two_of_a_hundred_at_most(with_base):
    """300 curves; at the promised 2 % more than 12 alarms come with a probability of 1 %."""
    alarms = share(lambda _: 2.5, "steady_rise", range(300), schedule(60), with_base=with_base, batch=4) * 300
    assert alarms <= 12


def test_healthy_curves_give_no_warning():
    findings = [finding for seed in SEEDS for finding in draw(settled, schedule(), seed=seed)]
    assert {finding["severity"] for finding in findings} <= {"info"}


def test_base_losses_sharpen_the_test():
    rising = (lambda part: 2.0 + 2.0 * min(part, 0.3), "steady_rise")
    sharp, blunt = (share(*rising, sd=0.2, beta=0.8, with_base=known) for known in (True, False))
    assert sharp >= blunt + 0.3


def test_a_level_above_the_base_models_is_a_rise_since_the_start():
    """It has risen before the LR was at peak: no line sees it, and without base losses nobody does."""
    lr, seen, blind = schedule(80), 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        base = rng.gamma(4, 0.7, (80, 2))
        watches = [CurveMonitor(lr, 1.0, level) for level in (float(base.mean()), None)]
        for step in range(30):
            nll = 2.0 + 0.6 * base[step] + rng.normal(0, 0.5, 2)  # 0.9 nats above the base model in the mean
            items = (nll.tolist(), base[step].tolist())
            found = [
                watched.update(step + 1, float(nll.mean()), 0.5, lr(step), *items[: 1 + (watched is watches[0])])
                for watched in watches
            ]
            if "steady_rise" in rules(found[0]):
                finding = only(found[0], "steady_rise")
                assert finding["evidence"]["compared_with"] == "the base model"
                assert finding["evidence"]["rise_nats"] == pytest.approx(0.9, abs=0.5)
                assert finding["evidence"]["level"] > finding["evidence"]["base_level"]
                seen += 1
            blind += "steady_rise" in rules(found[1])
    assert seen >= 18
    assert blind <= 2


def test_a_falling_beta_is_no_trend():
    """A trained model is ever less like the base; its mean loss stays the same here."""
    lr, rng, alarms = schedule(60), np.random.default_rng(5), 0
    for _ in range(60):
        base = rng.gamma(4, 0.7, (60, 8))
        watched = CurveMonitor(lr, 1.0, float(base.mean()))
        for step in range(60):
            beta = 1.0 - 0.9 * step / 60
            nll = 2.0 + beta * (base[step] - base.mean()) + rng.normal(0, 0.2, 8)
            found = watched.update(step + 1, float(nll.mean()), 0.5, lr(step), nll.tolist(), base[step].tolist())
            alarms += "steady_rise" in rules(found)
    assert alarms <= 4  # at 2 % five come with a probability of 1 %


def test_looks_are_four_and_do_not_depend_on_what_is_asked_between():
    lr = schedule(200)
    settings = Settings(lr, 1.0)
    peak = settings.peak_steps
    assert (peak.start, peak.stop) == (5, 48)  # the LR is below 0.8 of the peak from place 48 on
    looked = []
    curve = Curve()
    for step in range(1, 201):
        curve.add(settings, step, 2.0 + step, 0.5, lr(step - 1), [2.0 + step + i for i in range(8)], None)
        if steady_rise(curve, settings):
            looked.append(step)
    assert looked == [5 + math.ceil(43 * part) for part in (0.4, 0.6, 0.8, 1.0)]


def spike(part: float) -> float:
    return 2.0 + (1.5 if 0.04 <= part < 0.09 else 0.0)


def test_a_spike_in_warm_up_that_comes_back_asks_for_a_longer_one():
    assert share(spike, "warmup_spike") >= 0.9
    finding = only(draw(spike, schedule(), seed=1), "warmup_spike")
    assert finding["severity"] == "warning"
    assert finding["evidence"]["spike_level"] > 3.0 > finding["evidence"]["level_after"]
    assert finding["evidence"]["from_step"] <= 9 < finding["step"] < 20
    assert finding["advice"].startswith("lengthen the warm-up: try space.warmup_fraction 0.10 (this trial's: 0.050)")
    assert finding["advice"].endswith("lower space.peak_lr: try peak_lr 5.0e-05 (half of this trial's)")
    long = only(draw(spike, schedule(warmup=10), seed=1), "warmup_spike")
    assert "long enough (0.10 of the epoch): lower space.peak_lr" in long["advice"]


def test_gradients_that_grow_at_peak():
    growing = draw(settled, schedule(), norm=lambda part: 0.5 * math.exp(12 * part))
    finding = only(growing, "grad_norm_growing")
    assert finding["evidence"]["ratio"] > 4
    assert finding["step"] <= 30
    assert "try peak_lr 5.0e-05" in finding["advice"]
    late = draw(settled, schedule(), norm=lambda part: 0.5 if part < 0.5 else 5.0)
    odd = draw(settled, schedule(), norm=lambda part: 50.0 if round(part * 100) % 5 == 0 else 0.5)
    assert "grad_norm_growing" not in rules(late) | rules(odd)


def test_clipping_on_most_steps_names_a_threshold_for_the_odd_ones():
    def norm(part):
        return 2.0 + 2.0 * part

    finding = only(draw(settled, schedule(), norm=norm), "mostly_clipped")
    norms = np.array([norm(step / 100) for step in range(5, 100)])
    assert finding["severity"] == "info"
    assert finding["evidence"]["clipped_part"] == 1.0
    assert finding["evidence"]["norm_90_percent"] == pytest.approx(np.quantile(norms, 0.9), rel=0.2)
    assert finding["evidence"]["median_norm"] == pytest.approx(np.median(norms), rel=0.2)
    for threshold in (0.0, 3.5):
        assert "mostly_clipped" not in rules(draw(settled, schedule(), norm=norm, max_grad_norm=threshold))


def test_an_lr_that_moves_next_to_nothing():
    def crawl(part):
        return 2.8 - 0.03 * part

    assert share(crawl, "barely_moving", sd=0.1, beta=0.95) >= 0.9
    finding = only(draw(crawl, schedule(), sd=0.1, beta=0.95), "barely_moving")
    assert finding["evidence"]["fall_at_most"] < finding["evidence"]["threshold"]
    assert finding["advice"] == "raise space.peak_lr: try peak_lr 3.0e-04 (3 times this trial's)"
    assert share(lambda part: 2.8 - 0.3 * part, "barely_moving", sd=0.1, beta=0.95) == 0.0
    assert share(lambda part: 2.8 + 0.3 * part, "barely_moving", sd=0.1, beta=0.95) == 0.0


def test_falling_steeply_to_the_end_is_told_from_the_decays_share():
    def straight(part):
        return 2.8 - 1.6 * part

    constant = schedule(floor=8e-5)
    assert share(straight, "still_falling", lr=constant, sd=0.2) >= 0.5
    curves = (draw(straight, constant, seed=seed, sd=0.2) for seed in SEEDS)
    finding = next(found for one in curves for found in named(one, "still_falling"))
    assert finding["severity"] == "info"
    assert "nested subsets" in finding["advice"]
    # The same fall under an LR that goes to the floor may be all the decay's.
    assert share(straight, "still_falling", sd=0.2) <= 0.1
    assert share(straight, "still_falling", lr=schedule(shape="wsd"), sd=0.2) == 0.0
    assert share(settled, "still_falling", lr=constant, sd=0.2) == 0.0


def test_a_loss_that_comes_back_from_a_rise_is_not_still_falling():
    def back(part):
        return 2.8 - 3.0 * part if part < 0.2 else 2.2 + 3.0 * (part - 0.2) if part < 0.4 else 2.8 - 1.6 * (part - 0.4)

    constant = schedule(floor=8e-5)
    assert share(back, "still_falling", range(10), constant, sd=0.2) == 0.0
    assert share(lambda part: 2.8 - 1.2 * part, "still_falling", range(10), constant, sd=0.2) >= 0.5


def test_an_lr_below_which_nothing_was_gained():
    lr = schedule(400, floor=1e-6)
    finding = only(draw(settled, lr, sd=0.2, batch=8), "nothing_gained_below")
    assert finding["severity"] == "info"
    assert 2e-5 < finding["evidence"]["below_lr"] <= 5e-5
    assert finding["evidence"]["fall_at_most"] < 0.1 * finding["evidence"]["whole_fall_nats"]
    assert finding["advice"].startswith(f"raise space.decay_floor: try {finding['evidence']['below_lr']:.1e}")
    assert share(lambda part: 2.8 - 1.5 * part, "nothing_gained_below", range(5), lr, sd=0.2) == 0.0


def test_the_state_does_not_grow_with_the_epoch():
    sizes = []
    for steps in (200, 2000):
        lr = schedule(steps)
        watched = CurveMonitor(lr, 1.0, 2.8)
        draw(settled, lr, watched=watched, batch=2)
        sizes.append(len(pickle.dumps(watched._curve)))
    assert sizes[1] < 1.2 * sizes[0]


@pytest.mark.parametrize(("over", "seen"), [(1.0, True), (0.6, True), (0.0, False), (-1.0, False)])
def test_a_trial_that_is_worse_than_its_base_model_is_ended_early(over, seen):
    """By a tenth of the base model's level (2.8) at least; at 8 samples a step within a fifth of the epoch."""
    found = [draw(lambda _: 2.8 + over, schedule(), seed=seed, beta=0.9) for seed in SEEDS]
    assert np.mean(["worse_than_base" in rules(one) for one in found]) == (1.0 if seen else 0.0)
    if seen:
        findings = [only(one, "worse_than_base") for one in found]
        assert {finding["severity"] for finding in findings} == {"error"}
        assert max(finding["step"] for finding in findings) <= 20
        assert min(finding["step"] for finding in findings) >= 5 + 5, "not before a twentieth of the epoch"
        assert all(finding["evidence"]["over_base"] > 0.28 for finding in findings)


def test_the_fitted_part_of_the_base_losses_tells_it_earlier_than_the_whole(monkeypatch):
    """Samples differ much and the trial is hardly like its base any more: raw differences add the base's spread."""
    steps = {}
    for name in ("fitted", "raw"):
        if name == "raw":
            monkeypatch.setattr("trainables.diagnostics.curve_state.fit_beta", lambda _: 1.0)
        found = [draw(lambda _: 3.3, schedule(), seed=seed, beta=0.1) for seed in SEEDS]
        steps[name] = [f["step"] if (f := next(iter(named(one, "worse_than_base")), None)) else 100 for one in found]
    assert np.mean(steps["fitted"]) < np.mean(steps["raw"]) - 3
