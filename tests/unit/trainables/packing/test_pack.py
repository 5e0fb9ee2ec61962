"""How slots of a pack come, go, fail and are saved."""

import json
import math
from contextlib import nullcontext

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tests.unit.trainables.packing.helpers import Trial, initial, join_all, lora_weights, part_of, run_packed, same
from tests.unit.trainables.training.helpers import Memory, count_reads, lane, load_tiny, train_by_peft, trial
from trainables.checkpoints import checkpoint
from trainables.config.sections import LoraConfig, TrainingConfig
from trainables.errors import UserError
from trainables.models.base_model import Base
from trainables.packing import model as packed_model
from trainables.packing.pack import Pack
from trainables.training.loop import Loop, TrialRun

MARKS = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
TRIALS = [
    Trial(seed=1),
    Trial(seed=2, rank=2, alpha=3.0, lr=1e-1, training={"batch_size": 2, "gradient_accumulation": 2, "beta1": 0.8}),
    Trial(seed=3, rank=7, training={"max_grad_norm": 0.05, "weight_decay": 0.1}),
]


@pytest.fixture(scope="module")
def data(samples):
    return samples(16)


def adapter(pack, slot):
    with pack.model_of(slot) as model:
        return lora_weights(model)


def test_a_slot_of_nan_changes_not_one_bit_of_its_neighbours(tiny, data):
    def neighbours(lr):
        middle = Trial(seed=8, lr=lr, training={"max_grad_norm": 0.0})
        trials = [TRIALS[0], middle, TRIALS[2]]
        curves = run_packed(Pack(load_tiny(tiny)), data, trials)
        return curves[middle], [curves[trials[0]], curves[trials[2]]]

    healthy, expected = neighbours(1e-3)
    broken, found = neighbours(1e30)
    assert all(math.isfinite(loss) for loss in healthy.sums[-1])
    assert all(math.isnan(loss) for loss in broken.sums[-1])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.sums == theirs.sums
        assert ours.norms == theirs.norms
        assert same(ours.adapter, theirs.adapter)


def test_a_fresh_slot_holds_the_bits_that_prepare_draws_at_any_rank_of_the_pack(tiny):
    pack = Pack(load_tiny(tiny))
    for slot, t in join_all(pack, TRIALS).items():
        assert same(adapter(pack, slot), initial(load_tiny(tiny), t))


def test_a_saved_slot_is_the_adapter_that_the_loop_saves(tiny, data, tmp_path):
    base, t = load_tiny(tiny), TRIALS[1]
    seen = Memory(on_checkpoint=lambda step, model: checkpoint.save(model, tmp_path / "loop", {"step": step}))
    train_by_peft(base, data, trial(seed=t.seed), lane(lora=t.lora.model_dump(), batch_size=8), seen.hooks())

    def save(finished, slot):
        if finished is t:
            with pack.model_of(slot) as model:
                checkpoint.save(model, tmp_path / "pack", {"step": slot.steps})

    pack = Pack(base)
    trained = run_packed(pack, data, TRIALS[:2], at_end=save)[t].adapter

    configs = [json.loads((tmp_path / side / "adapter_config.json").read_text()) for side in ("pack", "loop")]
    for config in configs:
        config["target_modules"].sort()  # a set in PEFT
    assert configs[0] == configs[1]
    assert checkpoint.verify(tmp_path / "pack").keys() == checkpoint.verify(tmp_path / "loop").keys()
    keys = [load_file(tmp_path / side / "adapter_model.safetensors").keys() for side in ("pack", "loop")]
    assert keys[0] == keys[1]
    plain = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(plain, str(tmp_path / "pack"))
    assert same(lora_weights(loaded), trained)


def test_a_parked_trial_goes_on_in_another_pack_as_if_nothing_had_been(tiny, data):
    t = TRIALS[1]
    expected = run_packed(Pack(load_tiny(tiny)), data, [t])[t]

    first = Pack(load_tiny(tiny))
    slot = first.join(t.lora, t.section, t.seed)
    sums = [first.step([part_of(t, slot, data)])[0] for _ in range(2)]
    suspended = first.leave(slot)
    assert first.slots == []
    second = Pack(load_tiny(tiny))
    other = second.join(TRIALS[2].lora, TRIALS[2].section, TRIALS[2].seed)  # of a higher rank
    assert second.resume(suspended) is slot
    while slot.steps < len(t.epoch(len(data))):
        sums.append(second.step([part_of(TRIALS[2], other, data), part_of(t, slot, data)])[1])

    found = [loss for stepped in sums for losses in stepped.losses for loss in losses.sums.tolist()]
    assert found == pytest.approx([loss for step in expected.sums for loss in step], abs=1e-4)
    ours = adapter(second, slot)
    assert all(torch.allclose(ours[name], expected.adapter[name], atol=1e-5) for name in expected.adapter)


def test_room_for_a_higher_rank_stays_zero_and_goes_when_it_is_not_needed(tiny, data):
    pack = Pack(load_tiny(tiny))
    low, high = TRIALS[1], TRIALS[2]
    slots = join_all(pack, (low, high))
    for _ in range(3):
        pack.step([part_of(t, slot, data) for slot, t in slots.items()])
    stack = pack._stack
    assert stack.layout.rank == high.rank
    for row in stack.rows[:, 0]:
        for down, up in stack.layout.adapter(row).values():
            assert not down[low.rank :].any()
            assert not up[:, low.rank :].any()
            assert down[: low.rank].all()
    pack.leave(pack.slots[1])
    assert stack.layout.rank == low.rank
    assert stack.rows.shape == (3, 1, sum(stack.layout.sizes))


@pytest.mark.parametrize("recompute", [False, True])
def test_after_running_out_of_memory_every_slot_goes_on_as_if_nothing_had_been(tiny, data, monkeypatch, recompute):
    """Memory runs out in the backward pass of the second micro-batch of a step, then in the forward pass."""
    trials = [TRIALS[1], Trial(seed=3, training={"batch_size": 2, "gradient_accumulation": 2})]
    pack = Pack(load_tiny(tiny, gradient_checkpointing=recompute))
    expected = run_packed(Pack(load_tiny(tiny)), data, trials)
    slots = join_all(pack, trials)
    calls = []

    def fails_at(name, number):
        original = getattr(torch.Tensor, name) if name == "backward" else getattr(packed_model, name)

        def failing(*args, **kwargs):
            calls.append(name)
            if len(calls) == number:
                raise torch.OutOfMemoryError("planted")
            return original(*args, **kwargs)

        return failing

    parts = [part_of(t, slot, data) for slot, t in slots.items()]
    for owner, name in ((torch.Tensor, "backward"), (packed_model, "token_losses")):
        calls.clear()
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, fails_at(name, 2))
            with pytest.raises(torch.OutOfMemoryError):
                pack.step(parts)
        assert [slot.steps for slot in pack.slots] == [0, 0]
    stepped = pack.step(parts)
    for t, one in zip(trials, stepped, strict=True):
        sums = torch.cat([losses.sums for losses in one.losses]).tolist()
        assert sums == pytest.approx(expected[t].sums[0], abs=1e-5)
        assert one.grad_norm.item() == pytest.approx(expected[t].norms[0], rel=1e-5)


def test_the_base_comes_back_as_it_was(tiny, data):
    base = load_tiny(tiny)
    kinds = [type(module) for module in base.untouched().modules()]
    weights = {name: weight.clone() for name, weight in base.untouched().named_parameters()}
    pack = Pack(base)
    run_packed(pack, data, TRIALS[:2])
    slot = pack.join(TRIALS[0].lora, TRIALS[0].section, 1)
    pack.step([part_of(TRIALS[0], slot, data)])
    pack.close()
    assert pack.slots == []
    model = base.untouched()
    assert [type(module) for module in model.modules()] == kinds
    assert same(dict(model.named_parameters()), weights)
    assert not model.training
    again, before = Memory(), Memory()
    Loop(base).train(TrialRun(data, trial(), lane(), again.hooks()))
    Loop(load_tiny(tiny)).train(TrialRun(data, trial(), lane(), before.hooks()))
    assert again.records == before.records


def test_a_step_waits_for_no_number(tiny, data, monkeypatch):
    pack = Pack(load_tiny(tiny))
    slots = join_all(pack, TRIALS)
    parts = [part_of(t, slot, data) for slot, t in slots.items()]
    waited = count_reads(monkeypatch)
    stepped = pack.step(parts)
    assert waited == []
    assert stepped[0].grad_norm.item() > 0.0
    assert waited == ["item"]


def test_workers_add_up_their_gradients(tiny, data, monkeypatch):
    """Two workers, one after the other: the second has only the short slot's second sample."""
    trials = [TRIALS[0], TRIALS[2]]
    alone = Pack(load_tiny(tiny))
    slots = join_all(alone, trials)
    whole = [part_of(t, slot, data) for slot, t in slots.items()]
    (expected, _) = alone.step(whole)
    indices = trials[0].epoch(len(data))[0][0]
    shares = [[[data.batch(indices[:2])], whole[1].micro_batches], [[data.batch(indices[2:])], []]]

    class Worker:
        rank, size, all_or_none = 0, 2, staticmethod(nullcontext)

    sent = []

    def all_reduce(gradient):
        sent.append(gradient.clone())
        gradient.add_(sum(sent[:-1]))

    monkeypatch.setattr("trainables.packing.pack.dist.all_reduce", all_reduce)
    for share in reversed(shares):
        pack = Pack(load_tiny(tiny), Worker())
        join_all(pack, trials)
        steps = [part._replace(micro_batches=micro) for part, micro in zip(whole, share, strict=True)]
        found = pack.step(steps)
    assert len(sent) == 2
    assert found[0].grad_norm.item() == pytest.approx(expected.grad_norm.item(), rel=1e-5)
    ours, theirs = adapter(pack, pack.slots[0]), adapter(alone, alone.slots[0])
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)


def test_a_filler_is_computed_and_counts_for_nothing(tiny, data):
    packs, fillers = [Pack(load_tiny(tiny)) for _ in range(2)], [data.batch([0, 1])]
    for pack, more in zip(packs, ([], fillers), strict=True):
        ((slot, one),) = join_all(pack, TRIALS[:1]).items()
        part = part_of(one, slot, data)
        pack.step([part._replace(fillers=more)])
    plain, filled = packs
    assert plain.tokens == filled.tokens == sum(batch.tokens for batch in part.micro_batches)
    assert filled.rows - plain.rows >= fillers[0].tokens
    assert same(adapter(filled, filled.slots[0]), adapter(plain, plain.slots[0]))


def test_what_cannot_be_packed_is_said(tiny):
    base = load_tiny(tiny)
    assert Pack(base).obstacle(LoraConfig(dropout=0.1), TrainingConfig()) is None
    assert "recomputing" in Pack(load_tiny(tiny, gradient_checkpointing=True)).obstacle(
        LoraConfig(dropout=0.1), TrainingConfig()
    )
    assert Pack(load_tiny(tiny, "full")).obstacle(LoraConfig(), TrainingConfig()) == "all weights are trained"
    dropping = Base(small_llama(attention_dropout=0.1), None, "lora", "fp32")
    assert "of its own" in Pack(dropping).obstacle(LoraConfig(), TrainingConfig())
    with pytest.raises(UserError, match=r"trials_per_lane: must be 1 .* set it to 1"):
        Pack(dropping).join(LoraConfig(), TrainingConfig(), 0)


def test_layers_that_cannot_be_packed_are_refused_and_left_as_they_were():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2.0 * super().forward(x)

    doubled = small_llama()
    doubled.set_submodule("model.layers.0.mlp.up_proj", Doubled(16, 16))
    undropped = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, **undropped, **MARKS))
    for model, layer in ((gpt2, "Conv1D transformer.h.0.attn.c_attn"), (doubled, "Doubled model.layers.0.mlp.up_proj")):
        base = Base(model, None, "lora", "fp32")
        kinds = [type(module) for module in base.untouched().modules()]
        with pytest.raises(UserError, match=rf"trials_per_lane: .* got {layer}"):
            Pack(base).join(LoraConfig(r=2), TrainingConfig(), 0)
        assert [type(module) for module in base.untouched().modules()] == kinds


def test_slots_that_adapt_different_layers_do_not_mix(tiny, data):
    pack = Pack(load_tiny(tiny))
    named = Trial(targets=["q_proj", "down_proj"])
    slot = pack.join(named.lora, named.section, 0)
    with pytest.raises(ValueError, match="same layers"):
        pack.join(LoraConfig(), TrainingConfig(), 0)
    assert pack.slots == [slot]
    pack.step([part_of(named, slot, data)])
    assert {name.split(".")[-4] for name in adapter(pack, slot)} == {"q_proj", "down_proj"}


def small_llama(**special):
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=2, **sizes, **MARKS, **special))
