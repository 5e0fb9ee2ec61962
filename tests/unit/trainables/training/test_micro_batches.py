"""Micro-batches by tokens: the same curve, halved where memory runs out, the same again after a resume."""

import pytest
import torch

from tests.unit.trainables.training.helpers import Memory, exact_part, lane, load_tiny, trial
from trainables.packing.pack import Pack
from trainables.training.engine import SingleTrialEngine
from trainables.training.loop import Loop, TrialRun

ENGINES = {"lora": Pack, "full": SingleTrialEngine}


@pytest.fixture(scope="module")
def data(samples):
    return samples(23)


@pytest.fixture
def most_tokens(monkeypatch):
    """Lets a device hold so many tokens of a trial at once; remembers the tokens of every micro-batch that passed."""

    def limit(method, most):
        passed, engine = [], ENGINES[method]
        own = engine.step

        def limited(self, parts):
            sizes = [[batch.tokens for batch in part.micro_batches] for part in parts]
            if max(size for part in sizes for size in part) > most:
                raise torch.OutOfMemoryError("planted")
            passed.extend(sizes)
            return own(self, parts)

        monkeypatch.setattr(engine, "step", limited)
        return passed

    return limit


def train(tiny, data, method, *, resume=None, **training):
    seen, states = Memory(), {}
    hooks = seen.hooks(save_state=lambda step, state: states.update({step: {n: t.clone() for n, t in state.items()}}))
    spec = trial() if method == "lora" else trial(peak_lr=2e-3, decay_floor=4e-4)
    trial_run = TrialRun(data, spec, lane(method, **training), hooks)
    if resume:
        trial_run.resume_from(*resume)
    outcome = Loop(load_tiny(tiny, method)).train(trial_run)
    return seen.records, outcome, states


@pytest.mark.parametrize("method", ENGINES)
def test_the_curve_is_that_of_whole_batches(tiny, data, method):
    whole, expected, _ = train(tiny, data, method)
    for most in (1, 60):
        found, outcome, _ = train(tiny, data, method, micro_batch_tokens=most)
        assert outcome == expected
        for ours, theirs in zip(found, whole, strict=True):
            assert exact_part(ours) == exact_part(theirs)
            assert ours.loss == pytest.approx(theirs.loss, abs=1e-6)
            assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-5)


@pytest.mark.parametrize("method", ENGINES)
def test_where_memory_runs_out_micro_batches_are_halved_and_no_step_is_lost(tiny, data, method, most_tokens):
    whole, expected, _ = train(tiny, data, method)
    longest = int(data.lengths.max())
    passed = most_tokens(method, longest + 20)
    found, outcome, states = train(tiny, data, method)
    assert outcome == expected
    assert [exact_part(record) for record in found] == [exact_part(record) for record in whole]
    assert [record.loss for record in found] == pytest.approx([record.loss for record in whole], abs=1e-6)
    assert any(len(step) > 1 for step in passed)
    # A state says what was found; with it a new lane draws the rest of the curve to the bit, without running out.
    ((step, state),) = states.items()
    assert 0 < int(state["micro_batch_tokens"]) <= longest + 20
    passed.clear()
    rest, _, _ = train(tiny, data, method, resume=(step, state, [vars(record) for record in found[:step]]))
    assert rest == found[step:]


def test_a_state_of_whole_batches_is_as_before(tiny, data):
    _, _, states = train(tiny, data, "lora")
    assert [set(state) for state in states.values()] == [{"rows"}]


def test_one_sample_that_is_too_long_ends_the_trial_in_plain_words(tiny, data, most_tokens):
    longest = int(data.lengths.max())
    most_tokens("lora", longest - 1)
    with pytest.raises(torch.OutOfMemoryError, match=f"a sample of {longest} tokens alone .* data.max_tokens"):
        train(tiny, data, "lora")


def test_a_lane_keeps_what_it_has_found_for_the_next_trial(tiny, data, most_tokens, caplog):
    most_tokens("lora", int(data.lengths.max()) + 20)
    loop, warned = Loop(load_tiny(tiny)), []
    for _ in range(2):
        loop.train(TrialRun(data, trial(), lane(), Memory().hooks()))
        warned.append(sum("micro-batches" in record.message for record in caplog.records))
    assert warned[0] == warned[1] > 0


def test_packed_trials_keep_their_slots_while_smaller_micro_batches_help(tiny, data, most_tokens):
    passed = most_tokens("lora", int(data.lengths.max()) + 20)
    loop = Loop(load_tiny(tiny))
    loop.set_slots(2)
    for seed in (1, 2):
        loop.join(TrialRun(data, trial(seed=seed), lane(), Memory().hooks()))
    ends = []
    while not loop.is_empty:
        ends += loop.step()
    assert [end.outcome.state for end in ends] == ["complete", "complete"]
    assert loop.slots == 2
    assert len(passed) == 2 * 6
