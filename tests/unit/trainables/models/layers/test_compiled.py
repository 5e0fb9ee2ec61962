"""Compiled decoder layers give the losses of the model as it is."""

import shutil

import pytest
import torch

from tests.unit.trainables.packing.helpers import Trial, gaps, run_packed
from tests.unit.trainables.training.helpers import Memory, lane, load_tiny, train_by_peft, trial
from trainables.errors import UserError
from trainables.packing.pack import Pack


@pytest.fixture
def compiled_calls():
    """Counts the graphs that were compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield lambda: torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_trial_has_the_same_curve(tiny, samples, compiled_calls, method):
    curves = []
    for compiles in (False, True):
        seen, base = Memory(), load_tiny(tiny, method, compiles=compiles)
        train_by_peft(base, samples(8), trial(seed=1), lane(method, batch_size=3), seen.hooks())
        curves.append(seen.losses)
        assert bool(compiled_calls()) is compiles
    assert curves[1] == pytest.approx(curves[0], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_packed_trials_have_the_same_curves(tiny, samples, compiled_calls, quantize):
    trials = [Trial(seed=1), Trial(seed=2, rank=2, training={"batch_size": 2})]
    whole = run_packed(Pack(load_tiny(tiny, quantize=quantize)), samples(6), trials)
    assert not compiled_calls()
    found = run_packed(Pack(load_tiny(tiny, quantize=quantize, compiles=True)), samples(6), trials)
    assert compiled_calls()
    for t in trials:
        apart = gaps(found[t], whole[t])
        # AdamW's first steps move a weight by the LR whatever the size of its gradient: weights may differ by more.
        assert max(apart["losses"], apart["norms"]) <= 1e-5


def test_without_a_compiler_it_is_one_line(tiny, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"training.compile: needs a C\+\+ compiler on CPUs, got no g\+\+; install one"):
        load_tiny(tiny, compiles=True)
