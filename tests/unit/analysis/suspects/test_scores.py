"""Which training samples are suspect: planted in synthetic curves, and the parts of the score against closed forms."""

import numpy as np
import pytest
from scipy.ndimage import median_filter

from analysis.suspects.scores import (
    NEIGHBORS,
    OTHERS,
    TrialLosses,
    excess_and_score,
    local_median,
    merge_rare,
    suspicions,
)

SAMPLES, PLANTED = 400, 20
IDS = [f"s{index}" for index in range(SAMPLES)]
KINDS = {name: "number" if index % 3 else "words" for index, name in enumerate(IDS)}


def truth():
    rng = np.random.default_rng(4)
    return rng.gamma(4.0, 0.3, SAMPLES), set(rng.choice(SAMPLES, PLANTED, replace=False).tolist())


def epochs(trials=3, with_base=False, effect=1.5):
    """Losses fall along the epoch, words are harder than numbers, samples differ, and planted ones stay hard."""
    difficulty, planted = truth()
    found = []
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        order = rng.permutation(SAMPLES)
        level = 1.0 + 2.0 * np.exp(-np.arange(SAMPLES) / 60)
        kind = np.array([2.0 * (KINDS[IDS[index]] == "words") for index in order])
        wrong = np.array([effect * (index in planted) for index in order])
        nll = level + kind + 0.8 * difficulty[order] + wrong + rng.normal(0, 0.2, SAMPLES)
        base = difficulty[order] + kind if with_base else None
        found.append(TrialLosses([IDS[index] for index in order], nll, np.full(SAMPLES, 4.0), base))
    return found


def hits(ranked):
    _, planted = truth()
    return np.mean([int(sample.id[1:]) in planted for sample in ranked[:PLANTED]])


def test_planted_samples_lead_the_list():
    ranked = suspicions(epochs(), KINDS)
    assert len(ranked) == SAMPLES
    assert hits(ranked) >= 0.6
    first = ranked[0]
    assert (first.trials, first.base_nll) == (3, None)
    assert first.score == max(sample.score for sample in ranked)


def test_base_losses_take_the_difficulty_out():
    known = epochs(with_base=True)
    assert hits(suspicions(known, KINDS, less_base=True)) >= 0.9 > hits(suspicions(known, KINDS))
    first = suspicions(epochs(with_base=True), KINDS)[0]
    difficulty, _ = truth()
    assert first.base_nll == pytest.approx(difficulty[int(first.id[1:])] + 2.0 * (first.kind == "words"))


def test_more_trials_find_more():
    one, many = ([suspicions(epochs(trials=n, effect=1.0), KINDS)] for n in (1, 12))
    assert hits(many[0]) > hits(one[0])


def test_a_kind_that_is_hard_is_not_suspect():
    """Words lie two nats above numbers; without kinds they would fill the list."""
    ranked = suspicions(epochs(effect=0.0), KINDS)
    words = np.mean([KINDS[sample.id] == "words" for sample in ranked[:60]])
    assert 0.15 < words < 0.55
    blind = suspicions(epochs(effect=0.0), dict.fromkeys(IDS, "all"))
    assert np.mean([KINDS[sample.id] == "words" for sample in blind[:60]]) > 0.95


def test_the_place_in_the_epoch_is_not_suspect():
    """The first samples have the highest losses, for nothing was learnt yet."""
    rng = np.random.default_rng(0)
    nll = 1.0 + 2.0 * np.exp(-np.arange(SAMPLES) / 60) + rng.normal(0, 0.3, SAMPLES)
    ranked = suspicions([TrialLosses(IDS, nll, np.ones(SAMPLES))], dict.fromkeys(IDS, "all"))
    early = np.mean([int(sample.id[1:]) < 60 for sample in ranked[:60]])
    assert early < 0.4


def test_the_order_of_trials_does_not_matter():
    def scores(found):
        return {sample.id: sample.score for sample in suspicions(found, KINDS)}

    assert scores(epochs()[::-1]) == pytest.approx(scores(epochs()))


def test_losses_that_are_not_finite_are_left_out():
    whole = epochs(trials=2, with_base=True)
    name = whole[0].ids[7]
    whole[0].nll[7] = np.nan
    whole[1].base_nll[9] = np.inf
    ranked = {sample.id: sample for sample in suspicions(whole, KINDS)}
    assert ranked[name].trials == 1
    assert len(ranked) == SAMPLES
    assert all(np.isfinite(sample.score) for sample in ranked.values())


def test_the_local_median_is_scipys():
    values = np.random.default_rng(1).normal(0, 1, 200)
    expected = median_filter(values, NEIGHBORS)
    half = NEIGHBORS // 2
    found = local_median(values)
    assert found[half:-half] == pytest.approx(expected[half:-half])
    assert found[:half] == pytest.approx(np.median(values[:NEIGHBORS]))
    assert found[-half:] == pytest.approx(np.median(values[-NEIGHBORS:]))
    assert local_median(values[:5]) == pytest.approx([np.median(values[:5])] * 5)


def test_a_kind_whose_losses_hardly_differ_does_not_fill_the_list():
    rng = np.random.default_rng(2)
    kinds = ["narrow"] * 100 + ["wide"] * 100
    nll = np.concatenate([rng.normal(1, 0.01, 100), rng.normal(1, 0.5, 100)])
    excess, score = excess_and_score(nll, np.ones(200), None, kinds)
    assert np.abs(score[:100]).max() < 0.2 < 1.0 < np.abs(score[100:]).max()
    assert np.sign(score) == pytest.approx(np.sign(excess))


def test_what_many_tokens_say_counts_more():
    """Noise of 0.5 a token: the mean over 16 tokens is four times as sure as one token."""
    rng = np.random.default_rng(6)
    tokens = np.tile([1.0, 16.0], 100)
    nll = 1.0 + rng.normal(0, 0.5, 200) / np.sqrt(tokens)
    nll[[10, 11]] = 1.8
    excess, score = excess_and_score(nll, tokens, None, ["one"] * 200)
    assert excess[10] == pytest.approx(excess[11])
    assert score[11] == pytest.approx(4 * score[10])
    assert np.std(score[tokens == 1]) == pytest.approx(np.std(score[tokens == 16]), rel=0.35)


def test_where_nothing_was_learned_yet_an_outlier_counts_less():
    """The first fortieth of the epoch is at the base model's losses, two nats up and down."""
    rng = np.random.default_rng(7)
    nll = 1.0 + rng.normal(0, 0.2, 400)
    nll[:20] += rng.normal(1, 2, 20)
    nll[[5, 300]] = 4.0
    _, score = excess_and_score(nll, np.ones(400), None, ["one"] * 400)
    assert score[300] > 2 * score[5] > 0


def test_equal_losses_are_no_error():
    excess, score = excess_and_score(np.ones(20), np.ones(20), np.ones(20), ["one"] * 20)
    assert not excess.any()
    assert not score.any()


def test_rare_kinds_are_taken_together():
    kinds = {f"a{i}": "many" for i in range(10)} | {f"b{i}": f"rare {i}" for i in range(4)}
    merged = merge_rare(kinds)
    assert merged["a0"] == "many"
    assert {merged[f"b{i}"] for i in range(4)} == {OTHERS}
