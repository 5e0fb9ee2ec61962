"""Several trials in one loop: each ends as if it were alone, whatever becomes of its neighbours."""

import math
from types import SimpleNamespace

import pytest
import torch

from tests.unit.trainables.training.helpers import Memory, exact_part, lane, load_tiny, memory_for, trial
from trainables.training.loop import Hooks, Loop, TrialRun


@pytest.fixture(scope="module")
def data(samples):
    return samples(23)


def run(loop, data, config, specs, memories, starts=None):
    """Trains all, each joining before a step of its own as soon as there is room; the ends by trial id."""
    starts, ends, step = starts or [0] * len(specs), {}, 0
    waiting = sorted(zip(starts, specs, memories, strict=True), key=lambda entry: entry[0])
    while waiting or not loop.is_empty:
        while waiting and loop.free and waiting[0][0] <= step:
            _, spec, memory = waiting.pop(0)
            loop.join(TrialRun(data, spec, config, memory.hooks()))
        ends |= {end.trial_run.spec.trial_id: end for end in loop.step()}
        step += 1
    return ends


def named(name, **settings):
    return trial(**settings).model_copy(update={"trial_id": name})


def close(records, others):
    for ours, theirs in zip(records, others, strict=True):
        assert exact_part(ours) == exact_part(theirs)
        assert ours.item_nll == pytest.approx(theirs.item_nll, abs=2e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-3)


SPECS = [
    named("a"),
    named("b", seed=8, peak_lr=5e-3, batch_size=3.0),
    named("diverges", peak_lr=1e30, decay_floor=1e29, warmup_fraction=0.0, max_grad_norm=0.0),
    named("stopped", seed=9),
    named("late", seed=10, lora_r=7.0, gradient_accumulation=2.0),
    named("again", peak_lr=1e-2),
]


@pytest.fixture(scope="module")
def alone(tiny, data):
    """Each trial of `SPECS` by itself: its records and outcome."""
    loop = Loop(load_tiny(tiny))
    memories = [Memory(stop_at=4 if spec.trial_id == "stopped" else math.inf) for spec in SPECS]
    pairs = zip(SPECS, memories, strict=True)
    return memories, [loop.train(TrialRun(data, spec, lane(), seen.hooks())) for spec, seen in pairs]


@pytest.mark.parametrize("slots", [2, 3, 8])
def test_each_trial_is_as_if_it_were_alone(base, data, alone, slots):
    """Seeds, LRs, batch sizes and ranks differ; one diverges, one is stopped, some wait for a free slot."""
    solos, expected = alone
    loop = Loop(base)
    loop.set_slots(slots)
    together = [Memory(stop_at=seen.stop_at) for seen in solos]
    ends = run(loop, data, lane(), SPECS, together, starts=[0, 0, 0, 1, 3, 4])

    for spec, solo, one, seen in zip(SPECS, expected, solos, together, strict=True):
        outcome = ends[spec.trial_id].outcome
        assert (outcome.state, outcome.steps, outcome.samples_seen) == (solo.state, solo.steps, solo.samples_seen)
        assert [finding["rule"] for finding in outcome.findings] == [finding["rule"] for finding in solo.findings]
        assert seen.checkpoints == one.checkpoints
        if solo.state != "diverged":
            close(seen.records, one.records)
    assert [expected[i].state for i in (0, 2, 3)] == ["complete", "diverged", "stopped"]
    assert loop.free == slots


def test_trials_on_the_same_samples_waste_no_row(base, data):
    loop, config = Loop(base), lane()
    loop.set_slots(3)
    specs = [named(name, peak_lr=lr) for name, lr in [("a", 2e-2), ("b", 1e-2), ("c", 5e-3)]]
    run(loop, data, config, specs, [Memory() for _ in specs])
    rows, tokens = loop.rows
    assert rows == tokens == 3 * int(data.lengths.sum())
    run(loop, data, config, [named("d", seed=8), named("e", seed=9)], [Memory(), Memory()])
    more_rows, more_tokens = loop.rows
    assert more_tokens - tokens == 2 * int(data.lengths.sum())
    assert more_tokens - tokens < more_rows - rows < 2 * (more_tokens - tokens)


def test_a_hook_that_raises_ends_its_own_trial_alone(base, data):
    class FullDiskError(OSError):
        pass

    def fails(*_):
        raise FullDiskError

    config = lane()
    expected = Memory()
    Loop(base).train(TrialRun(data, named("fine"), config, expected.hooks()))
    broken = SimpleNamespace(hooks=lambda: Hooks(steps=fails, checkpoint=fails, should_stop=lambda: False))
    memories = [Memory(), Memory(on_checkpoint=fails), broken]
    loop = Loop(base)
    loop.set_slots(3)
    ends = run(loop, data, config, [named("fine"), named("at checkpoint"), named("at report")], memories)
    assert ends["fine"].error is None
    close(memories[0].records, expected.records)
    assert isinstance(ends["at checkpoint"].error, FullDiskError)
    assert isinstance(ends["at report"].error, FullDiskError)
    assert ends["at report"].outcome is None


def test_out_of_memory_halves_the_slots_and_no_trial_loses_a_step(base, data, monkeypatch, caplog):
    config = lane()
    specs = [named(f"t{seed}", seed=seed) for seed in range(5)]
    alone = [Memory() for _ in specs]
    for spec, seen in zip(specs, alone, strict=True):
        Loop(base).train(TrialRun(data, spec, config, seen.hooks()))
    memory_for(2, monkeypatch)
    loop = Loop(base)
    loop.set_slots(5)
    together = [Memory() for _ in specs]
    ends = run(loop, data, config, specs, together)
    assert {end.outcome.state for end in ends.values()} == {"complete"}
    for one, seen in zip(alone, together, strict=True):
        close(seen.records, one.records)
        assert seen.checkpoints == one.checkpoints
    assert loop.slots == 2
    assert "memory ran out with 5 trials at a time: the lane goes on with 2" in caplog.text
    loop.set_slots(8)
    assert loop.slots == 2  # what was found out holds for the trials to come


def test_a_trial_that_is_too_large_alone_raises_and_the_base_comes_back(base, data, monkeypatch):
    pristine = {name: weight.clone() for name, weight in base.untouched().state_dict().items()}
    memory_for(0, monkeypatch)
    loop = Loop(base)
    with pytest.raises(torch.OutOfMemoryError, match=r"a sample of \d+ tokens alone does not fit .* data.max_tokens"):
        loop.train(TrialRun(data, named("large"), lane(), Memory().hooks()))
    loop.clear()
    assert loop.is_empty
    assert loop.free == 1
    found = base.untouched().state_dict()
    assert found.keys() == pristine.keys()
    assert all(torch.equal(found[name], pristine[name]) for name in pristine)


def test_time_is_shared_out_among_the_trials_of_a_step(base, data, monkeypatch):
    """A clock that moves by a second a look: what the trials are charged adds up to what has passed."""
    now = iter(range(10**6))
    loop, config = Loop(base), lane()
    loop.set_slots(2)
    monkeypatch.setattr("trainables.training.loop.time", SimpleNamespace(monotonic=lambda: next(now)))
    specs = [named("a"), named("b", seed=8, batch_size=8.0)]
    seen = [Memory(), Memory()]
    ends = run(loop, data, config, specs, seen)
    seconds = {name: end.outcome.worker_seconds for name, end in ends.items()}
    # A look before and after: 1 s to join, 1 s a step (shared in 3 of 6 steps), 1 s for each of two checkpoints.
    assert seconds == {"a": 1 + 3 / 2 + 3 + 2, "b": 1 + 3 / 2 + 2}
    # Each of so few steps is a report point.
    told = [(speed.step, speed.seconds) for speed in seen[0].speeds]
    assert told == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 1.0), (5, 1.0), (6, 1.0)]
    assert [speed.seconds for speed in seen[1].speeds] == [0.5, 0.5, 0.5]
