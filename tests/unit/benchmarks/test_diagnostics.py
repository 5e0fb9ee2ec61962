"""The benchmark of the diagnostics: its labels, its resampled curves and its counts, on recordings made up here."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.diagnostics import heldout as diagnostics_heldout
from benchmarks.diagnostics.__main__ import false_alarms, mean_with_interval, recorded, worse_than_base
from benchmarks.diagnostics.ground_truth import findings_of, truths
from benchmarks.diagnostics.planted import TRAIN, answer_kinds, planted_precision
from benchmarks.diagnostics.recorded import (
    label,
    read,
    resampled,
    samples_of,
    settings_of,
    siblings,
    true_rise,
    variances,
    worse_at,
)
from benchmarks.diagnostics.rule_counts import RuleCounts
from benchmarks.diagnostics.synthetic import CLASSES, findings
from benchmarks.intervals import proportion
from benchmarks.recording.curves import Curves
from benchmarks.recording.data import plant, read_samples
from trainables.data.answer_text import answer_kind

SAMPLES, BATCH, STEPS = 320, 4, 80
PEAKS = (1e-5, 3e-4, 5e-4, 1e-2)
GAINS = (0.1, 0.9, 1.0, 0.2)
"""By peak: too low, healthy, best, too high."""


def recording(seeds=4, study="seeds", planted_effect=2.0):
    """Trials of four settings; those of the highest peak rise while the LR is at peak."""
    draw = np.random.default_rng(0)
    base = draw.gamma(4, 0.7, SAMPLES)
    planted = np.zeros((1, SAMPLES), bool)
    planted[0, draw.choice(SAMPLES, 16, replace=False)] = True
    fields = {name: [] for name in ("seed", "params", "item_nll", "order", "heldout")}
    for peak, gain in zip(PEAKS, GAINS, strict=True):
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(SAMPLES)
            part = np.arange(SAMPLES) / SAMPLES
            level = 2.8 - gain * (1 - np.exp(-10 * part)) + (peak > 1e-3) * 4.0 * np.clip(part - 0.05, 0, 0.25)
            nll = level + 0.4 * (base[order] - base.mean()) + draw.normal(0, 0.3, SAMPLES)
            fields["item_nll"].append(nll + planted_effect * planted[0, order] * (study == "planted"))
            fields["seed"].append(seed)
            fields["params"].append((peak, 0.05, 0.2 * peak))
            fields["order"].append(order)
            fields["heldout"].append(np.full((1, 6), 2.8 - gain))
    trials = len(fields["seed"])
    return Curves(
        **{name: np.array(values) for name, values in fields.items()},
        study=np.full(trials, study),
        data=np.full(trials, "train"),
        state=np.full(trials, "complete"),
        grad_norm=np.full((trials, STEPS), 0.5),
        points=np.array([1.0]),
        batch_size=BATCH,
        areas=("a", "b"),
        area_of=np.array([0, 0, 0, 1, 1, 1]),
        base_heldout=np.full(6, 2.8),
        sets=("train",),
        base_item_nll=base[None],
        tokens=np.full((1, SAMPLES), 5),
        planted=planted,
        ids=np.array([f"kind-{index}" for index in range(SAMPLES)]),
    )


@pytest.fixture
def curves():
    return recording()


def level_of(curves):
    """The base model's mean training loss."""
    return float(curves.base_item_nll.mean())


def test_settings_are_labelled_by_what_they_gained_which_is_nothing_where_trials_diverged(curves):
    settings = settings_of(curves)
    assert [setting.gain for setting in settings] == pytest.approx(GAINS)
    labels = label(settings)
    assert [labels[trial] for trial in (0, 4, 8, 12)] == ["too low", "healthy", "healthy", "too high"]
    curves.state[12:] = "diverged"
    curves.heldout[12:] = np.nan
    assert [setting.gain for setting in settings_of(curves)] == pytest.approx([*GAINS[:3], 0.0])


def test_the_true_rise_is_that_of_the_mean_curve():
    curves = recording(seeds=12)
    rises = [true_rise(curves, setting.trials) for setting in settings_of(curves)]
    assert rises[3] > 0.05
    assert max(rises[1:3]) < 0.0
    assert true_rise(recording(seeds=2), (0, 1)) is None


def test_a_rising_trial_is_read_as_such_and_a_healthy_one_is_not(curves):
    spoken = [{f["rule"] for f in read(samples_of(curves, t), curves.schedule(t), level_of(curves))} for t in range(16)]
    assert sum("steady_rise" in found for found in spoken[12:]) >= 3
    assert not any("steady_rise" in found for found in spoken[4:12])


def test_a_trial_that_broke_off_is_read_to_there(curves):
    curves.item_nll[0, 40:] = np.nan
    curves.grad_norm[0, 10:] = np.nan
    assert read(samples_of(curves, 0), curves.schedule(0), None) == []


def test_resampled_curves_never_rise_and_keep_the_residuals_with_their_base_losses(curves):
    samples = samples_of(curves, 12)
    drawn = [resampled(samples, np.random.default_rng(seed)) for seed in range(200)]
    mean = np.mean([one.nll for one in drawn], axis=0)
    quarters = [part.mean() for part in np.array_split(mean, 4)]
    assert all(later <= earlier + 0.02 for earlier, later in pairwise(quarters))
    assert samples.nll[:80].mean() < samples.nll[80:160].mean() - 0.1  # which the recorded curve did not
    assert np.corrcoef(samples.nll, samples.base)[0, 1] > 0.3
    assert np.mean([np.corrcoef(one.nll, one.base)[0, 1] for one in drawn]) > 0.3
    assert drawn[0].nll.std() == pytest.approx(samples.nll.std(), rel=0.2)
    assert set(drawn[0].base) <= set(samples.base)


def test_variances_are_those_of_numpy(curves):
    found = variances(curves, 4, 8)
    own, other = samples_of(curves, 4), samples_of(curves, 8)
    assert found.shape == (4, 4)
    assert found[0, 3] == pytest.approx(np.var(own.nll[240:], ddof=1))
    assert found[3, 0] == pytest.approx(np.var((own.nll - other.nll)[:80], ddof=1))
    # beta is 0.4 in truth, and with beta 1 the base adds more than it takes away.
    assert found[2, 3] < found[0, 3] < found[1, 3]


def test_siblings_have_the_same_order(curves):
    pairs = list(siblings(curves, set(range(4, 12))))
    assert len(pairs) == 4
    assert all((curves.order[a] == curves.order[b]).all() for a, b in pairs)


def test_planted_answers_are_found_and_none_where_nothing_was_changed():
    kinds = dict.fromkeys(recording().ids.tolist(), "number")

    def precision(effect, trials):
        curves = recording(study="planted", planted_effect=effect)
        return planted_precision(curves, "train", kinds, trials, less_base=True)

    assert precision(2.0, 3) > 0.8
    assert precision(0.0, 3) < 0.3
    assert precision(2.0, 99) is None


def test_kinds_come_from_the_answers_as_planted_and_not_from_ids():
    samples = read_samples(str(TRAIN))[:60]
    wrong, exchanged = plant(samples, 3)
    ids = np.array([sample.id for sample in samples])
    curves = replace(recording(), ids=ids, sets=("planted-3",), planted=np.isin(ids, exchanged)[None])
    assert answer_kinds(curves, "planted-3") == {sample.id: answer_kind(sample.response) for sample in wrong}
    with pytest.raises(ValueError, match="was recorded with other wrong answers"):
        answer_kinds(replace(curves, sets=("planted-4",)), "planted-4")


def test_a_recording_gives_a_table():
    result = recorded(recording(), 20)
    assert result["labels"] == {"healthy": 8, "too high": 4, "too low": 4}
    assert result["rules"]["LR too high"]["recall"]["of"] == 4
    assert result["steady rise, healthy resampled"]["without"]["of"] == 20
    assert len(result["variance by quarter"]["minus sibling"]) == 4
    assert false_alarms(recording(), [], 5) == {"curves": 0}


def test_counts_and_intervals():
    counts = RuleCounts()
    for spoke, there in [(True, True), (True, False), (False, True), (False, False), (True, True)]:
        counts.add(spoke, there)
    assert counts == RuleCounts(right=2, spoke=3, there=3)
    assert RuleCounts().summary() == {"precision": None, "recall": None}
    # Wilson (1927), 8 of 10.
    assert proportion(8, 10)["interval"] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    even = mean_with_interval(np.array([0.5, 0.5]))
    assert (even["lower"], even["upper"]) == (0.5, 0.5)
    assert mean_with_interval(np.array([0.2, 0.6]))["met"] is False


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if kind.must])
def test_every_class_shows_what_it_is_made_for(name):
    kind = CLASSES[name]
    seen = sum(set(kind.must) <= findings(kind, seed, True) for seed in range(5))
    assert seen >= 3


def with_points(curves, late_rise=0.0):
    """Held-out losses at quarters: from 0.4 of the gain to all of it, the middle peaks' rising at the end."""
    gain = (curves.base_heldout - curves.heldout[:, 0])[:, None, :]
    heldout = curves.base_heldout - gain * np.array([0.4, 0.8, 1.0, 1.0])[None, :, None]
    heldout[4:12, 3] += late_rise
    return replace(curves, heldout=heldout, points=np.array([0.25, 0.5, 0.75, 1.0]))


def test_truths_come_from_held_out_losses_and_other_seeds():
    known = truths(with_points(recording(), late_rise=0.1))
    assert known["barely_moving"] == [True] * 4 + [False] * 12
    assert known["heldout_worse"] == [False] * 4 + [True] * 8 + [False] * 4
    assert known["forgetting"] == [False] * 16
    assert known["worse_than_base"] == [False] * 16
    assert known["steady_rise"] == [False] * 12 + [True] * 4
    assert known["mostly_clipped"] == known["grad_norm_growing"] == [False] * 16
    assert truths(with_points(recording(seeds=2)))["steady_rise"] == [None] * 8, "two seeds tell nothing"


def test_what_is_worse_held_out_is_true_and_what_is_hardly_worse_is_not_known():
    curves = with_points(recording())
    for over, truth in [(0.5, True), (0.1, None), (-0.1, False)]:
        curves.heldout[0] = 2.8 + over
        assert truths(curves)["worse_than_base"][0] is truth
        assert truths(curves)["forgetting"][0] is (over > 0)


def test_a_spike_and_a_growing_norm_are_confirmed_by_the_other_seeds(curves):
    curves.item_nll[0:4, 20:36] += 3.0  # steps 6 to 9, after 4 of warm-up
    curves.grad_norm[4:8, 10:] = 5.0
    known = truths(curves)
    assert known["warmup_spike"] == [True] * 4 + [False] * 12
    assert known["grad_norm_growing"] == [False] * 4 + [True] * 4 + [False] * 8


def test_nothing_is_gained_below_an_lr_where_held_out_losses_stand_still():
    curves = with_points(recording())
    assert truths(curves)["nothing_gained_below"][8] is True
    curves.heldout[8] = 2.8 - np.array([0.1, 0.2, 0.5, 1.0])[:, None]
    assert truths(curves)["nothing_gained_below"][8] is False


def test_rules_are_given_one_half_of_the_held_out_items_and_the_truth_the_other():
    curves = with_points(recording())
    curves.heldout[5, :, [0, 2]] += 3.0  # of area a those that the rules see
    curves.heldout[6, :, 1] += 3.0  # and the one that they don't
    said = [{finding["rule"] for finding in findings_of(curves, trial, level_of(curves))} for trial in (5, 6)]
    assert ["forgetting" in one for one in said] == [True, False]
    assert truths(curves)["forgetting"][5:7] == [False, True]


def test_a_trial_that_is_worse_from_the_warm_up_on_is_found_early(curves):
    level = level_of(curves)
    curves.item_nll[0] += 1.0
    assert 0.05 + 0.05 <= worse_at(curves, 0, level, raw=False) <= 0.2
    assert worse_at(curves, 5, level, raw=False) is None
    table = worse_than_base(curves, dict.fromkeys(range(4), "too high"))
    assert table["with beta"]["of LR too high"]["found"] == 1
    assert table["with beta"]["of others"]["found"] == 4, "those whose loss rises"


@pytest.mark.parametrize("kind", [kind for kind in diagnostics_heldout.CLASSES.values() if kind.must])
def test_held_out_scores_of_a_class_show_what_they_are_made_for(kind):
    assert sum(set(kind.must) == diagnostics_heldout.findings(kind, seed) for seed in range(10)) >= 8


def test_counts_of_the_rules_on_held_out_scores():
    counts = diagnostics_heldout.heldout_counts(3)
    assert {rule: count.there for rule, count in counts.items()} == dict.fromkeys(diagnostics_heldout.RULES, 3)
