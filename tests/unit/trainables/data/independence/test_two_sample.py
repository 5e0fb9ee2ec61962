import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.unit.trainables.data.independence.helpers import demo, halves, made, needs_shared, sample, shared, texts
from trainables.data.independence import two_sample
from trainables.data.independence.texts import group_of
from trainables.data.independence.two_sample import (
    FEWEST_GROUPS,
    RESAMPLES,
    asks_stock_questions,
    compare,
    grouped_auc,
    whole_groups,
)


def check(train, area, seed=0):
    return compare(texts(train), texts(area), seed)


def test_one_process_is_flagged_and_another_style_is_not():
    train = made("plain", 60, seed=1)
    same, other = check(train, made("plain", 25, seed=2)), check(train, made("curt", 25, seed=3))
    assert same.verdict == "same_process"
    assert 0.3 < same.low < same.auc < same.high < 0.9
    assert other.verdict == "no_evidence"
    assert other.high > 0.9 > 0.5 < other.low
    assert (same.items_used, same.groups, same.train_used, same.train_groups) == (50, 25, 120, 60)


def test_same_seed_same_result_and_another_seed_another():
    train, area = made("plain", 40, seed=1), made("plain", 25, seed=2)
    assert check(train, area, 5) == check(train, area, 5)
    assert check(train, area, 5) != check(train, area, 6)


@pytest.mark.parametrize(("train", "area"), [(0, 0), (-1, 60), (60, -1)])
def test_each_side_needs_its_contexts(train, area):
    sides = [made("plain", FEWEST_GROUPS + more, seed=1 + k, questions=4) for k, more in enumerate((train, area))]
    found = check(*sides)
    assert found.verdict == ("same_process" if train == area else "too_small")
    assert (found.auc is None) == (found.low is None) == (found.high is None) == (train != area)


def test_a_context_that_is_nearly_all_of_an_area_is_too_small():
    one = [sample(f"a{i}", "shared table\n\nQuestion: what is row {i}?", str(i), group="one") for i in range(200)]
    rest = [dataclasses.replace(s, meta={"group": f"g{i}"}) for i, s in enumerate(made("curt", 25, 1, questions=1))]
    found = check([*one, *rest], one)
    assert found.verdict == "too_small"
    assert found.groups == 1


def test_an_area_of_one_group_leaves_no_fold_to_learn_from():
    assert grouped_auc(["a b c"] * 10, ["a b d"] * 10, [f"g{i}" for i in range(10)], ["one"] * 10) is None


def auc_by(key, sides):
    wholes = ([text.whole for text in side] for side in sides)
    return grouped_auc(*wholes, *([getattr(text, key) for text in side] for side in sides))


def test_without_groups_two_parts_of_a_training_set_are_separated():
    """A context of many questions is remembered by its words, unless it stays in one fold."""
    sides = [texts(made("plain", 30, seed, questions=4)) for seed in (1, 2)]
    assert auc_by("group", sides)[2] < 0.9 < auc_by("id", sides)[1]


def test_the_auc_is_that_of_scikit_learn_within_a_fold_and_ties_are_half():
    rng = np.random.default_rng(0)
    train, area = (rng.integers(0, 6, size) + shift for size, shift in ((40, 0), (25, 1)))
    sides = [(scores.astype(float), np.zeros(len(scores), np.intp), np.arange(len(scores))) for scores in (train, area)]
    aucs = two_sample._resampled_auc(*sides, np.random.default_rng(1))
    truth = roc_auc_score(np.repeat([0, 1], [40, 25]), [*train, *area])
    assert aucs.shape == (1 + RESAMPLES,)
    assert aucs[0] == pytest.approx(truth, abs=1e-12)
    # Hanley & McNeil 1982: standard error of an AUC of independent samples.
    q1, q2 = truth / (2 - truth), 2 * truth**2 / (1 + truth)
    error = np.sqrt((truth * (1 - truth) + 24 * (q1 - truth**2) + 39 * (q2 - truth**2)) / (40 * 25))
    assert np.std(aucs[1:]) == pytest.approx(error, rel=0.15)


def test_pairs_are_compared_within_a_fold_only():
    """The second fold's scores lie 100 higher, as another classifier's may."""
    train = np.array([0.0, 1.0, 100.0, 101.0]), np.array([0, 0, 1, 1]), np.arange(4)
    area = np.array([0.5, 100.5]), np.array([0, 1]), np.arange(2)
    assert two_sample._resampled_auc(train, area, np.random.default_rng(0))[0] == 0.5


def test_a_group_is_drawn_as_a_whole():
    weights = two_sample._group_weights(np.array([0, 1, 0, 2, 1]), np.random.default_rng(0))
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 1] + weights[:, 3] == 3).all()
    assert weights[1:].std() > 0


def test_groups_are_taken_whole_up_to_the_limit():
    train = texts(made("plain", 30, seed=1))
    taken = whole_groups(train, 11, np.random.default_rng(0))
    counts = [sum(t.group == name for t in taken) for name in {t.group for t in taken}]
    assert len(taken) == 11
    assert sorted(counts) == [1, 2, 2, 2, 2, 2]
    assert len(whole_groups(train, 100, np.random.default_rng(0))) == 60


def test_where_all_ask_the_same_the_whole_prompt_is_compared():
    """The labels are alike on both sides; only the messages show that other people wrote one of them."""

    def mails(style, seed):
        asked = [(s.id, s.prompt.split("Question: ")[1]) for s in made(style, 30, seed)]
        return [
            sample(f"{style}{i}", f"{text}\n\nQuestion: Which kind?", "ab"[i % 2], group=name)
            for i, (name, text) in enumerate(asked)
        ]

    assert asks_stock_questions(texts(mails("plain", 1)))
    assert not asks_stock_questions(texts(made("plain", 30, 1)))
    other, same = check(mails("plain", 1), mails("curt", 2)), check(mails("plain", 1), mails("plain", 2))
    assert other.compared == same.compared == "prompt and response"
    assert (other.verdict, same.verdict) == ("no_evidence", "same_process")


def test_the_demo_areas_are_not_flagged():
    train = demo("train.jsonl")
    for name in ("tables", "invoices", "contracts", "reports"):
        assert check(train, demo(f"heldout/{name}.jsonl")).verdict == "no_evidence", name


@pytest.mark.parametrize("read", [demo, pytest.param(shared, marks=needs_shared)])
def test_halves_of_a_training_set_are_flagged(read):
    for seed in range(3):
        assert check(*halves(read("train.jsonl"), group_of, seed), seed=seed).verdict == "same_process", seed


@needs_shared
def test_without_groups_two_parts_of_a_real_training_set_are_separated():
    rng = np.random.default_rng(0)
    sides = [whole_groups(texts(half), 500, rng) for half in halves(shared("train.jsonl"), group_of, 0)]
    assert auc_by("group", sides)[2] < 0.75 < 0.85 < auc_by("id", sides)[1]
