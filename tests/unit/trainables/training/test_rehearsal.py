"""The longest batch, trained once: what it says of memory, and that it leaves nothing behind."""

import re

import pytest
import torch

from tests.unit.trainables.training.helpers import lane, load_tiny, memory_for
from trainables.optim.optimizer import Optimizer
from trainables.optim.workers import SOLO
from trainables.packing.pack import Pack
from trainables.training.engine import SingleTrialEngine
from trainables.training.rehearsal import rehearse


@pytest.fixture(scope="module")
def data(samples):
    return samples(16)


def tokens_fit(most, monkeypatch, *engines):
    """Makes a step run out of memory where a micro-batch of a trial has more tokens."""
    seen = []
    for engine in engines:

        def limited(self, parts, own=engine.step):
            sizes = [batch.tokens for part in parts for batch in part.micro_batches]
            seen.append((len(parts), max(sizes)))
            if max(sizes) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return own(self, parts)

        monkeypatch.setattr(engine, "step", limited)
    return seen


@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_sample_of_the_batch_is_the_longest_and_the_base_stays_as_it_was(tiny, data, monkeypatch, method):
    base = load_tiny(tiny, method)
    before = {name: weight.clone() for name, weight in base.untouched().state_dict().items()}
    seen = tokens_fit(10**6, monkeypatch, Pack, SingleTrialEngine)
    found = rehearse(base, data, {"sums": data}, lane(method), {"batch_size": 3}, 2, SOLO)
    longest = int(data.lengths.max())
    slots = 2 if method == "lora" else 1  # full fine-tuning can't be packed
    assert seen == [(slots, 3 * longest)] * 2
    assert (found.longest_tokens, found.samples, found.slots) == (longest, 3, slots)
    assert (found.device, found.memory_bytes, found.micro_batch_tokens, found.refusal) == ("CPU", None, None, None)
    after = base.untouched().state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_batches_that_do_not_fit_are_tried_in_parts(base, data, monkeypatch):
    longest = int(data.lengths.max())
    tokens_fit(2 * longest, monkeypatch, Pack)
    found = rehearse(base, data, {"sums": data}, lane(), {}, 1, SOLO)
    assert (found.refusal, found.micro_batch_tokens) == (None, 2 * longest)


def test_fewer_trials_side_by_side_may_fit(base, data, monkeypatch):
    memory_for(1, monkeypatch)
    found = rehearse(base, data, {"sums": data}, lane(), {}, 2, SOLO)
    assert (found.refusal, found.slots) == (None, 1)


@pytest.mark.parametrize(
    ("method", "owner", "name", "said"),
    [
        ("lora", Pack, "step", "a sample of .* tokens alone does not fit"),
        ("full", SingleTrialEngine, "step", "a sample of .* tokens alone does not fit"),
        ("full", Optimizer, "step", "gradients and optimizer state do not fit"),
    ],
)
def test_one_sample_that_does_not_fit_is_the_refusal(tiny, data, monkeypatch, method, owner, name, said):
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    base = load_tiny(tiny, method)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, out_of_memory)
        found = rehearse(base, data, {"sums": data}, lane(method), {}, 1, SOLO)
    assert re.match(said, found.refusal)
    assert rehearse(base, data, {"sums": data}, lane(method), {}, 1, SOLO).refusal is None


def test_other_errors_are_not_of_memory(base, data, monkeypatch):
    def broken(*_):
        raise RuntimeError("a kernel failed")

    monkeypatch.setattr(Pack, "step", broken)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        rehearse(base, data, {"sums": data}, lane(), {}, 1, SOLO)
