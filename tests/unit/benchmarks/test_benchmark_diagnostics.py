"""The benchmark of the diagnostics: its labels, its resampled curves and its counts, on recordings made up here."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from analysis.suspicion import answer_kind
from benchmarks.curves import Curves
from benchmarks.diagnostics import count, false_alarms, mean_with_interval, proportion, recorded, summary
from benchmarks.diagnostics_planted import TRAIN, answer_kinds, planted_precision
from benchmarks.diagnostics_real import (
    label,
    read,
    resampled,
    samples_of,
    settings_of,
    siblings,
    true_rise,
    variances,
)
from benchmarks.diagnostics_synthetic import CLASSES, findings
from benchmarks.record_data import plant
from trainables.config import FieldNames
from trainables.samples import read_samples

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


def test_settings_are_labelled_by_what_they_gained():
    curves = recording()
    settings = settings_of(curves)
    assert [setting.gain for setting in settings] == pytest.approx(GAINS)
    labels = label(settings)
    assert [labels[trial] for trial in (0, 4, 8, 12)] == ["too low", "healthy", "healthy", "too high"]


def test_trials_that_diverged_gained_nothing():
    curves = recording()
    curves.state[12:] = "diverged"
    curves.heldout[12:] = np.nan
    assert [setting.gain for setting in settings_of(curves)] == pytest.approx([*GAINS[:3], 0.0])


def test_the_true_rise_is_that_of_the_mean_curve():
    curves = recording(seeds=12)
    rises = [true_rise(curves, setting.trials) for setting in settings_of(curves)]
    assert rises[3] > 0.05
    assert max(rises[1:3]) < 0.0
    assert true_rise(recording(seeds=2), (0, 1)) is None


def test_a_rising_trial_is_read_as_such_and_a_healthy_one_is_not():
    curves = recording()
    level = float(curves.base_item_nll.mean())
    spoken = [{f["rule"] for f in read(samples_of(curves, t), curves.schedule(t), level)} for t in range(16)]
    assert sum("steady_rise" in found for found in spoken[12:]) >= 3
    assert not any("steady_rise" in found for found in spoken[4:12])


def test_a_trial_that_broke_off_is_read_to_there():
    curves = recording()
    curves.item_nll[0, 40:] = np.nan
    curves.grad_norm[0, 10:] = np.nan
    assert read(samples_of(curves, 0), curves.schedule(0), None) == []


def test_resampled_curves_never_rise_and_keep_the_residuals_beside_their_base_losses():
    curves = recording()
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


def test_variances_are_those_of_numpy():
    curves = recording()
    found = variances(curves, 4, 8)
    own, other = samples_of(curves, 4), samples_of(curves, 8)
    assert found.shape == (4, 4)
    assert found[0, 3] == pytest.approx(np.var(own.nll[240:], ddof=1))
    assert found[3, 0] == pytest.approx(np.var((own.nll - other.nll)[:80], ddof=1))
    # beta is 0.4 in truth, and with beta 1 the base adds more than it takes away.
    assert found[2, 3] < found[0, 3] < found[1, 3]


def test_siblings_have_the_same_order():
    curves = recording()
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
    samples = read_samples(str(TRAIN), FieldNames())[:60]
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
    counts = {"precision": [0, 0], "recall": [0, 0]}
    for spoke, there in [(True, True), (True, False), (False, True), (False, False), (True, True)]:
        count(counts, spoke, there)
    assert counts == {"precision": [2, 3], "recall": [2, 3]}
    assert summary({"precision": [0, 0]}) == {"precision": None}
    # Wilson (1927), 8 of 10.
    assert proportion(8, 10)["interval"] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert mean_with_interval(np.array([0.5, 0.5]))["interval"] == [0.5, 0.5]
    assert mean_with_interval(np.array([0.2, 0.6]))["met"] is False


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if kind.must])
def test_every_class_shows_what_it_is_made_for(name):
    kind = CLASSES[name]
    seen = sum(set(kind.must) <= findings(kind, seed, True) for seed in range(5))
    assert seen >= 3
