"""Packed trials against an independent reference: plain PEFT, `torch.optim.AdamW`, `clip_grad_norm_`, one by one."""

import math

import pytest
import torch

from tests.unit.trainables.models.helpers import save_family
from tests.unit.trainables.packing.helpers import Trial, gaps, initial, plain_base, run_alone, run_packed
from tests.unit.trainables.training.helpers import Memory, lane, load_tiny, train_by_peft, trial
from trainables.optim.lr_schedule import LRSchedule
from trainables.packing.pack import Pack

VOCABULARY = 259  # bytes and three marks
DIVERGING = Trial(seed=4, lr=1e200, training={"max_grad_norm": 0.0})
TRIALS = [
    Trial(seed=1),
    Trial(seed=2, rank=2, alpha=3.0, lr=1e-1, training={"batch_size": 2, "gradient_accumulation": 2, "beta1": 0.8}),
    DIVERGING,
    Trial(seed=3, rank=7, starts=2, training={"max_grad_norm": 0.05, "weight_decay": 0.1}),
    Trial(seed=1, lr=3e-2, pruned_after=3),
    Trial(seed=5, starts=3, training={"batch_size": 5, "eps": 1e-4, "beta2": 0.9}),
    Trial(seed=1, lr=1e-4, training={"max_grad_norm": 0.0}),
    Trial(seed=6, starts=1, training={"batch_size": 1, "gradient_accumulation": 6}),
]


@pytest.fixture(scope="module")
def data(samples):
    return samples(16)


@pytest.fixture(scope="module")
def double(tiny):
    return plain_base(tiny, torch.float64)


@pytest.fixture(scope="module")
def alone(tiny, data, double):
    """The reference's curve of each trial, in double precision."""
    return {t: run_alone(tiny, initial(double, t), data, t) for t in TRIALS}


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_packed_epoch_is_that_of_trials_trained_alone(data, double, alone, count):
    """Ranks, batch sizes, accumulation and lengths differ; one diverges to NaN, one is pruned, some join late."""
    trials = [TRIALS[0], *TRIALS[2 : count + 1]] if count < len(TRIALS) else TRIALS
    found = run_packed(Pack(double), data, trials)
    for t in trials:
        expected = alone[t]
        assert len(found[t].sums) == len(expected.sums)
        if t is DIVERGING:
            assert found[t].sums[0] == pytest.approx(expected.sums[0], abs=1e-9)
            assert all(math.isnan(loss) for step in (found[t].sums[-1], expected.sums[-1]) for loss in step)
            continue
        assert max(gaps(found[t], expected).values()) <= 1e-9
        assert all(weight.any() for weight in found[t].adapter.values())  # every B has left its zeros


def test_single_precision_starts_alike_and_drifts_no_further_than_alone(tiny, base, data, alone):
    """Drift is the distance from the same trial in double precision; the reference has its own."""
    trials = [t for t in TRIALS if t is not DIVERGING]
    found = run_packed(Pack(base), data, trials)
    for t in trials:
        expected = run_alone(tiny, initial(base, t), data, t, torch.float32)
        tokens = [int(data.label_mask(i).sum()) for micro in t.epoch(len(data))[0] for i in micro]
        for ours, theirs, count in zip(found[t].sums[0], expected.sums[0], tokens, strict=True):
            assert ours / count == pytest.approx(theirs / count, abs=1e-6)
        assert found[t].norms[0] == pytest.approx(expected.norms[0], abs=1e-6)
        drift, allowed = gaps(found[t], alone[t]), gaps(expected, alone[t])
        assert drift["losses"] <= 3 * allowed["losses"]
        assert drift["weights"] <= 3 * max(allowed["weights"], 1e-7)


def test_one_slot_gives_the_loops_curve(base, data):
    config, spec = lane(batch_size=3, max_grad_norm=0.5, weight_decay=0.01), trial(seed=1)
    seen = Memory()
    train_by_peft(base, data, spec, config, seen.hooks())
    mine = Trial(seed=1, training={"max_grad_norm": 0.5})
    mine.lr_at = lambda step: seen.records[step].lr
    found = run_packed(Pack(base), data, [mine])[mine]
    for record, sums, norm in zip(seen.records, found.sums, found.norms, strict=True):
        means = [loss / n for loss, n in zip(sums, record.item_tokens, strict=True)]
        assert means == pytest.approx(record.item_nll, abs=1e-6)
        assert norm == pytest.approx(record.grad_norm, rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "falcon", "gemma2", "gpt-neox"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_families_and_dropout_are_as_in_the_loop(family, dropout, data, tmp_path, monkeypatch):
    """Falcon and Gemma 2 take no flat rows: their slots are padded to equal numbers of sequences of equal lengths."""
    folder = save_family(family, tmp_path / "model", vocabulary=VOCABULARY)
    base = plain_base(folder)
    trials = [
        Trial(seed=2, dropout=dropout, training={"batch_size": 5}),
        Trial(seed=3, dropout=dropout / 2, rank=2, training={"batch_size": 3, "gradient_accumulation": 2}),
    ]
    curves = run_packed(Pack(base), data, trials)
    for t in trials:
        seen = Memory()
        spec = trial(seed=t.seed, peak_lr=1.0, decay_floor=1.0)
        config = lane(lora=t.lora.model_dump(), **{**t.section.model_dump(), "checkpoints_at": [1.0]})
        monkeypatch.setattr(LRSchedule, "lr", lambda _, step, t=t: t.lr_at(step))
        train_by_peft(base, data, spec, config, seen.hooks())
        assert len(seen.records) == len(curves[t].sums)
        for record, sums, norm in zip(seen.records, curves[t].sums, curves[t].norms, strict=True):
            means = [loss / n for loss, n in zip(sums, record.item_tokens, strict=True)]
            assert means == pytest.approx(record.item_nll, abs=2e-5)
            assert norm == pytest.approx(record.grad_norm, rel=1e-3)


def test_bf16_gives_nearly_the_loops_curve(tiny, data):
    base, t, seen = load_tiny(tiny, precision="bf16"), Trial(seed=1, lr=1e-2), Memory()
    config = lane(batch_size=3, weight_decay=0.01, precision="bf16")
    train_by_peft(base, data, trial(seed=1), config, seen.hooks())
    t.lr_at = lambda step: seen.records[step].lr
    neighbour = Trial(seed=2, rank=8)
    found = run_packed(Pack(base), data, [neighbour, t])[t]
    losses = [sum(sums) / record.tokens for sums, record in zip(found.sums, seen.records, strict=True)]
    assert losses == pytest.approx(seen.losses, rel=0.01)
    assert losses != seen.losses
    assert {weight.dtype for weight in found.adapter.values()} == {torch.float32}
