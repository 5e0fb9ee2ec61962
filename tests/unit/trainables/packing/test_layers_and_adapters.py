"""What a pack is made of: AdamW over rows, batches laid out together, weights in rows, the layer's arithmetic."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.trainables.models.helpers import batch_of, sequences
from trainables.data.dataset import collate
from trainables.packing.adamw import SlotUpdate, update_
from trainables.packing.adapters import AdapterStack, AdapterState, Layout
from trainables.packing.batches import pack_batches
from trainables.packing.layers import Dropout, PackedLinear, Routing

SLOTS = [
    {"lr": 1e-2, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "max_grad_norm": 1.0},
    {"lr": 3e-1, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1, "max_grad_norm": 0.0},
    {"lr": 1e-4, "beta1": 0.0, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.5, "max_grad_norm": 1e-2},
]


def torch_adamw(start, gradients, numbers, lrs):
    """One slot by torch's own clipping and AdamW."""
    weight = nn.Parameter(start.clone())
    settings = {name: numbers[name] for name in ("eps", "weight_decay")}
    adamw = torch.optim.AdamW([weight], betas=(numbers["beta1"], numbers["beta2"]), **settings)
    norms = []
    for gradient, lr in zip(gradients, lrs, strict=True):
        weight.grad = gradient.clone()
        norms.append(nn.utils.get_total_norm([weight.grad]))
        if numbers["max_grad_norm"]:
            nn.utils.clip_grad_norm_([weight], numbers["max_grad_norm"])
        adamw.param_groups[0]["lr"] = lr
        adamw.step()
    return weight.detach(), torch.stack(norms)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_adamw_and_clipping_are_torchs_for_every_slot(dtype, tolerance):
    """Each slot has numbers of its own, and joined at another time: it starts at its own first step."""
    random = torch.Generator().manual_seed(0)
    joins = [0, 2, 1]
    start = torch.randn(3, 50, dtype=dtype, generator=random)
    gradients = torch.randn(7, 3, 50, dtype=dtype, generator=random) * torch.tensor([0.01, 1.0, 100.0])[:, None]
    gradients[:, 0, 3] = 0.0
    norms, state = [], {}
    for step in range(7):
        live = [slot for slot in range(3) if joins[slot] <= step]
        for slot in live:
            state.setdefault(slot, torch.stack([start[slot], *torch.zeros(2, 50, dtype=dtype)]))
        rows = torch.stack([state[slot] for slot in live], dim=1)  # (3, slots, P)
        updates = [
            SlotUpdate(step=step - joins[slot] + 1, **{**SLOTS[slot], "lr": SLOTS[slot]["lr"] / (step + 1)})
            for slot in live
        ]
        norms.append(dict(zip(live, update_(rows[0], gradients[step, live], *rows[1:], updates), strict=True)))
        state.update({slot: rows[:, place] for place, slot in enumerate(live)})
    for slot, numbers in enumerate(SLOTS):
        steps = range(joins[slot], 7)
        lrs = [numbers["lr"] / (step + 1) for step in steps]
        weight, expected = torch_adamw(start[slot], gradients[joins[slot] :, slot], numbers, lrs)
        assert torch.allclose(state[slot][0], weight, rtol=tolerance, atol=tolerance)
        assert torch.allclose(torch.stack([norms[step][slot] for step in steps]), expected, rtol=10 * tolerance)
        assert not torch.allclose(weight, start[slot], atol=1e-5)


@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e300])
def test_a_broken_gradient_stays_in_its_row(broken):
    """1e300 squared is infinite in double precision: so is the norm."""
    updates = [SlotUpdate(step=1, **numbers) for numbers in SLOTS]
    random = torch.Generator().manual_seed(0)
    start = torch.randn(3, 20, dtype=torch.float64, generator=random)
    gradient = torch.randn(3, 20, dtype=torch.float64, generator=random)
    whole, zeros = start.clone(), torch.zeros(2, 3, 20, dtype=torch.float64)
    norms = update_(whole, gradient.clone(), *zeros.clone(), updates)
    found, poisoned = start.clone(), gradient.clone()
    poisoned[1, 4] = broken
    broken_norms = update_(found, poisoned, *zeros.clone(), updates)
    for slot in (0, 2):
        assert torch.equal(found[slot], whole[slot])
        assert torch.equal(norms[slot], broken_norms[slot])
    expected, _ = torch_adamw(start[1], [torch.where(torch.arange(20) == 4, broken, gradient[1])], SLOTS[1], [0.3])
    assert torch.allclose(found[1], expected, rtol=1e-12, equal_nan=True)
    assert torch.isfinite(expected).any()


def test_an_update_allocates_nothing_of_the_weights_size():
    class Largest(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            known = {a.untyped_storage().data_ptr() for a in (*args, *(kwargs or {}).values()) if torch.is_tensor(a)}
            out = function(*args, **(kwargs or {}))
            if torch.is_tensor(out) and out.untyped_storage().data_ptr() not in known:
                self.bytes = max(self.bytes, out.untyped_storage().nbytes())
            return out

    updates = [SlotUpdate(step=1, **numbers) for numbers in SLOTS]
    rows = torch.ones(4, 3, 1000)
    with Largest() as largest:
        update_(*rows, updates)
        assert largest.bytes < rows[0].nbytes / 10
        rows[0] + rows[1]
        assert largest.bytes == rows[0].nbytes


def lengths_of(packed):
    return packed.batch.cu_seqlens.diff().tolist()


@pytest.mark.parametrize(
    ("last", "shape", "own", "lengths"),
    [
        ((5, 5, 2), (1, 12), ((1, 10), (1, 4), (1, 12)), [7, 3, 2, 4, 7, 1, 5, 5, 2]),  # flat: tokens are topped up
        ((5, 9, 2), (3, 9), ((2, 7), (1, 4), (3, 9)), [7, 3, 1, 4, 1, 1, 5, 9, 2]),  # padded: sequences are
    ],
)
def test_slots_are_topped_up_to_the_largest(last, shape, own, lengths):
    packed = pack_batches([batch_of(part) for part in ((7, 3), (4,), last)], longest_flat=8, pad_id=0)
    assert (packed.shape, packed.own, lengths_of(packed)) == (shape, own, lengths)
    assert packed.items == (slice(0, 2), slice(3, 4), slice(6, 9))
    assert packed.rows == shape[0] * shape[1]
    assert packed.batch.max_length == max(7, *last)


@pytest.mark.parametrize("longest_flat", [0, 64])
def test_a_slots_part_is_what_it_would_be_alone(longest_flat):
    batches = [batch_of((7, 3), seed=1), batch_of((4, 8), seed=2), batch_of((5, 5, 2), seed=3)]
    packed = pack_batches(batches, longest_flat, pad_id=1)
    whole = packed.batch
    starts = whole.cu_seqlens.tolist()
    assert starts[-1] == whole.tokens
    for alone, items in zip(batches, packed.items, strict=True):
        first, last = starts[items.start], starts[items.stop]
        mine = (whole.label_item >= items.start) & (whole.label_item < items.stop)
        assert torch.equal(whole.input_ids[first:last], alone.input_ids)
        assert torch.equal(whole.position_ids[first:last], alone.position_ids)
        assert torch.equal(whole.label_positions[mine] - first, alone.label_positions)
        assert torch.equal(whole.labels[mine], alone.labels)
        assert torch.equal(whole.label_item[mine] - items.start, alone.label_item)
        assert whole.ids[items] == alone.ids
    assert whole.label_tokens == sum(batch.label_tokens for batch in batches)
    unlabelled = [s._replace(label_mask=s.label_mask & False) for s in sequences(lengths_of(packed))]
    assert torch.equal(whole.position_ids, collate(unlabelled).position_ids)


def test_one_slot_is_run_on_its_own_batch():
    batch = batch_of((7, 3))
    packed = pack_batches([batch], longest_flat=64, pad_id=0)
    assert packed.batch is batch
    assert packed.rows == batch.tokens


def adapter_of(rank, seed=0, features=((3, 5), (4, 2))):
    random = torch.Generator().manual_seed(seed)
    return {
        f"layer{place}": (torch.randn(rank, ins, generator=random), torch.randn(outs, rank, generator=random))
        for place, (ins, outs) in enumerate(features)
    }


def test_rows_hold_adapters_whatever_the_room():
    adapter = adapter_of(2)
    state = AdapterState.fresh(adapter, scaling=0.5)
    assert not state.rows[1:].any()
    wide = state.layout.fit(state.rows, 5)
    back = Layout(state.layout.features, 5).fit(wide, 2)
    assert wide.shape == (3, 5 * 14)
    assert torch.equal(back, state.rows)
    for name, (down, up) in Layout(state.layout.features, 5).adapter(wide[0]).items():
        assert torch.equal(down[:2], adapter[name][0])
        assert torch.equal(up[:, :2], adapter[name][1])
        assert not down[2:].any()
        assert not up[:, 2:].any()


def test_slots_leave_a_stack_as_they_came():
    states = [AdapterState.fresh(adapter_of(rank, seed=rank), scaling=rank / 4) for rank in (2, 5, 3)]
    stack = AdapterStack()
    for state in states:
        stack.add(state)
    assert stack.layout.rank == 5
    taken = stack.take(1)
    assert stack.layout.rank == 3
    assert torch.equal(taken.rows, states[1].rows)
    assert taken.scaling == states[1].scaling
    for place, state in enumerate((states[0], states[2])):
        assert torch.equal(stack.state(place).rows, state.rows)
        assert stack.state(place).layout == state.layout
    work = stack.working_copy(None)
    for row, state in zip(work, (states[0], states[2]), strict=True):
        for name, (down, up) in stack.layout.adapter(row).items():
            own = state.layout.adapter(state.rows[0])[name]
            assert torch.equal(down[: state.layout.rank], own[0])
            assert torch.equal(up[:, : state.layout.rank], own[1] * state.scaling)
    stack.take(0)
    stack.take(0)
    assert stack.layout is None
    stack.add(states[0])
    assert torch.equal(stack.state(0).rows, states[0].rows)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_layers_arithmetic_and_its_gradients(bias, dropout):
    """Against autograd on the formula, slot by slot; the masks are drawn anew from equal generators."""
    torch.manual_seed(0)
    linear = nn.Linear(4, 3, bias=bias).double().requires_grad_(False)
    packed = pack_batches([batch_of((5, 2)), batch_of((6,))], longest_flat=64, pad_id=0)
    device = torch.device("cpu")
    rates = (dropout, dropout / 2)
    routing = Routing(packed, [Dropout(rate, 7 + s, device) for s, rate in enumerate(rates)] if dropout else ())
    layer = PackedLinear(linear, routing)
    x = torch.randn(1, 14, 4, dtype=torch.float64, requires_grad=True)
    downs = torch.randn(2, 2 * 4, dtype=torch.float64, requires_grad=True)
    ups = torch.randn(2, 3 * 2, dtype=torch.float64, requires_grad=True)
    layer.down, layer.up = downs, ups
    weights = torch.randn(1, 14, 3, dtype=torch.float64)
    out = layer(x)
    found = torch.autograd.grad((out * weights).sum(), [x, downs, ups])

    expected = []
    for slot, own in enumerate((7, 6)):
        rows = x[0, slot * 7 : slot * 7 + 7]
        mask = torch.ones_like(rows)
        if dropout:
            mask[:own] = Dropout(rates[slot], 7 + slot, device).mask((1, own, 4), x.dtype)[0]
        expected.append(linear(rows) + (rows * mask) @ downs[slot].view(2, 4).T @ ups[slot].view(3, 2).T)
    expected = torch.cat(expected)[None]
    theirs = torch.autograd.grad((expected * weights).sum(), [x, downs, ups])
    assert torch.allclose(out, expected, atol=1e-14)
    for ours, other in zip(found, theirs, strict=True):
        assert torch.allclose(ours, other, atol=1e-13)


def test_masks_are_those_of_torchs_dropout():
    torch.manual_seed(5)
    expected = nn.functional.dropout(torch.ones(2, 3, 8), 0.3, training=True)
    assert torch.equal(Dropout(0.3, 5, torch.device("cpu")).mask((2, 3, 8), torch.float32), expected)
    assert len(np.unique(expected)) == 2


def test_a_layer_that_sees_only_some_rows_refuses():
    packed = pack_batches([batch_of((5, 2))], longest_flat=64, pad_id=0)
    layer = PackedLinear(nn.Linear(4, 3), Routing(packed))
    layer.down, layer.up = torch.zeros(1, 8), torch.zeros(1, 6)
    with pytest.raises(ValueError, match="a layer got 6 rows of 7"):
        layer(torch.zeros(6, 4))
