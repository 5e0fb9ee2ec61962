"""AdamW with moments in 8 bits against bitsandbytes' own, its state, and what it does to a curve."""

import bitsandbytes
import pytest
import torch
from torch import nn

from tests.unit.trainables.training.helpers import Memory, lane, load_tiny, trial
from trainables.config.sections import TrainingConfig
from trainables.models import pretrained
from trainables.models.demo_model import DEFAULT_FOLDER
from trainables.optim.optimizer import Optimizer
from trainables.training.loop import Loop, TrialRun

SECTION = TrainingConfig(optimizer="adamw_8bit", weight_decay=0.1, beta2=0.99, max_grad_norm=0.5)


def small():
    """Two matrices, of which one is large enough for 8 bits, and biases."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(96, 80), nn.Linear(80, 10))


def give_gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


def run(model, optimizer, steps):
    for step in steps:
        give_gradients(model, step)
        optimizer.step(1e-2 / (1 + step))


def same(one, other):
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


def test_it_steps_as_bitsandbytes_does():
    ours, theirs = small(), small()
    run(ours, Optimizer(ours, SECTION), range(6))
    groups = [
        {"params": [weight for weight in theirs.parameters() if weight.ndim > 1], "weight_decay": 0.1},
        {"params": [weight for weight in theirs.parameters() if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = bitsandbytes.optim.AdamW8bit(groups, betas=(0.9, 0.99), eps=1e-8)
    for step in range(6):
        give_gradients(theirs, step)
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        for group in adamw.param_groups:
            group["lr"] = 1e-2 / (1 + step)
        adamw.step()
    assert same(ours, theirs)
    assert not same(ours, small())


def test_a_state_restores_it_to_the_bit():
    whole, before, after = small(), small(), small()
    run(whole, Optimizer(whole, SECTION), range(6))
    optimizer = Optimizer(before, SECTION)
    run(before, optimizer, range(3))
    state = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    assert {name for name in state if name.endswith(".0")} == {
        "weight.0", "first.0", "second.0", "first_scales.0", "second_scales.0"
    }  # fmt: skip
    assert state["first.0"].dtype == torch.uint8
    assert state["first.2"].dtype == torch.float32, "800 weights stay whole"
    again = Optimizer(after, SECTION)
    again.load(state, 3)
    run(after, again, range(3, 6))
    assert same(after, whole)


def curve(base, data, optimizer, peak_lr):
    seen = Memory()
    config = lane("full", batch_size=4, optimizer=optimizer, checkpoints_at=[1.0])
    spec = trial(seed=3, peak_lr=peak_lr, decay_floor=peak_lr / 20)
    Loop(base).train(TrialRun(data, spec, config, seen.hooks()))
    return seen.losses


@pytest.mark.parametrize(
    ("demo", "count", "peak_lr"), [(False, 240, 2e-3), pytest.param(True, 80, 5e-5, marks=pytest.mark.slow)]
)
def test_its_curve_stays_close_to_that_of_whole_moments(tiny, samples, demo, count, peak_lr):
    """The figures of docs/performance.md, of the tiny model and of SmolLM2-135M."""
    if demo and not DEFAULT_FOLDER.is_dir():
        pytest.skip("make demo-model")
    base, data = load_tiny(DEFAULT_FOLDER if demo else tiny, "full"), samples(count)
    whole, coarse = (curve(base, data, name, peak_lr) for name in ("adamw", "adamw_8bit"))
    gaps = [abs(ours - theirs) for ours, theirs in zip(coarse, whole, strict=True)]
    last = len(gaps) // 4
    shift = sum(coarse[-last:]) / last - sum(whole[-last:]) / last
    print(f"{len(gaps)} steps, {whole[0]:.3f} to {whole[-1]:.3f}: gap at most {max(gaps):.4f}, end {shift:+.4f} nats")
    assert gaps[0] == 0.0, "the first losses are before any update"
    assert 0.0 < max(gaps) < 0.05
    assert abs(shift) < 0.01


def test_without_bitsandbytes_it_is_one_line(monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(pretrained.UserError, match="optimizer: needs bitsandbytes, got none installed; run: pip"):
        Optimizer(small(), SECTION)
