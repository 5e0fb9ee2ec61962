import inspect
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma3TextConfig, Qwen2Config, Qwen3NextConfig

from tests.unit.trainables.models.helpers import FAMILIES, HEADED, LONGEST_FLAT, VOCABULARY
from trainables.models import flat_attention
from trainables.models.flat_attention import PADDING_FREE, longest_flat, padding_free_attention

HEADS, HEAD_SIZE = 4, 8


class Layer(torch.nn.Module):
    is_causal = True

    def __init__(self, key_heads=HEADS):
        super().__init__()
        self.num_key_value_groups = HEADS // key_heads


def flat(lengths, key_heads=HEADS, dtype=torch.float64, seed=0):
    """Query, key, value of a flat row that want gradients, and what says where its sequences begin."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [
        torch.randn(1, heads, sum(lengths), HEAD_SIZE, dtype=dtype, generator=generator).requires_grad_()
        for heads in (HEADS, key_heads, key_heads)
    ]
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    return tensors, {"cu_seq_lens_q": cu_seqlens, "max_length_q": max(lengths)}


def by_the_book(query, key, value, lengths, scaling):
    """softmax(scale q k + mask) v over the whole row, all but one's own past masked: (1, T, heads, size)."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(len(owner))
    visible = (owner[:, None] == owner[None]) & (place[:, None] >= place[None])
    scores = (query @ key.transpose(-1, -2) * scaling).masked_fill(~visible, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("lengths", [[5], [1, 1], [3, 9, 1, 4]])
@pytest.mark.parametrize("scaling", [HEAD_SIZE**-0.5, 0.7])
def test_each_sequence_attends_to_its_own_past(key_heads, lengths, scaling):
    tensors, where = flat(lengths, key_heads)
    found, weights = padding_free_attention(Layer(key_heads), *tensors, None, scaling=scaling, **where)
    expected = by_the_book(*tensors, lengths, scaling)
    assert weights is None
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    out = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for mine, theirs in zip(*(torch.autograd.grad(side, tensors, out) for side in (found, expected)), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6), data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_company_of_a_sequence_does_not_matter(lengths, data):
    tensors, where = flat(lengths, dtype=torch.float32)
    found, _ = padding_free_attention(Layer(), *tensors, None, **where)
    chosen = data.draw(st.integers(0, len(lengths) - 1))
    start = sum(lengths[:chosen])
    own = [tensor[:, :, start : start + lengths[chosen]] for tensor in tensors]
    _, alone_where = flat([lengths[chosen]])
    alone, _ = padding_free_attention(Layer(), *own, None, **alone_where)
    assert torch.equal(found[:, start : start + lengths[chosen]], alone)


def test_dropout_reaches_the_attention_weights():
    tensors, where = flat([6, 9])
    torch.manual_seed(0)
    found, _ = padding_free_attention(Layer(), *tensors, None, dropout=0.5, **where)
    exact, _ = padding_free_attention(Layer(), *tensors, None, **where)
    assert not torch.allclose(found, exact)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_the_gpu_kernel_is_called_as_it_is_defined(monkeypatch, key_heads):
    """The kernel runs on GPUs only; a stand-in that takes its layout and arguments shows that these are right."""
    signature = inspect.signature(flat_attention.varlen_attn)
    calls = []

    def kernel(*args, **kwargs):
        given_ = signature.bind(*args, **kwargs).arguments
        calls.append(given_)
        assert given_["window_size"] == (-1, 0)
        assert given_["max_q"] == given_["max_k"] == 9
        assert given_["enable_gqa"] is (key_heads != HEADS)
        lengths = given_["cu_seq_q"].diff().tolist()
        row = [given_[name].transpose(0, 1)[None] for name in ("query", "key", "value")]
        return by_the_book(*row, lengths, given_["scale"])[0]

    monkeypatch.setattr(flat_attention, "varlen_attn", kernel)
    monkeypatch.setattr(flat_attention, "_has_varlen_kernel", lambda query: True)
    tensors, where = flat([3, 9, 4], key_heads)
    found, _ = padding_free_attention(Layer(key_heads), *tensors, None, scaling=0.3, **where)
    torch.testing.assert_close(found, by_the_book(*tensors, [3, 9, 4], 0.3), atol=1e-12, rtol=0)
    padding_free_attention(Layer(key_heads), *tensors, None, scaling=0.3, dropout=0.1, **where)
    assert len(calls) == 1  # the kernel has no dropout


def test_an_ordinary_batch_goes_to_sdpa():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, HEADS, 5, HEAD_SIZE, generator=generator) for _ in range(3))
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    mask[0, :, :, 0] = False
    mask[0, :, 0, 0] = True
    found, _ = padding_free_attention(Layer(), query, key, value, mask, scaling=0.3)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3)
    assert torch.equal(found, expected.transpose(1, 2))


def tiny(config, sizes):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config(vocab_size=VOCABULARY, **sizes))


@pytest.mark.parametrize("family", FAMILIES)
def test_which_families_go_without_padding(family):
    model = tiny(*FAMILIES[family])
    assert longest_flat(model) == LONGEST_FLAT.get(family, sys.maxsize)
    if longest_flat(model):  # transformers knows the attention by name
        model.set_attn_implementation(PADDING_FREE)
        assert model.config._attn_implementation == PADDING_FREE


@pytest.mark.parametrize(
    ("config", "changes", "longest"),
    [
        (Qwen2Config, {"sliding_window": 9, "use_sliding_window": False}, sys.maxsize),
        (Qwen2Config, {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 1}, 9),
        (Gemma3TextConfig, {"sliding_window": 9, "layer_types": ["full_attention"] * 2}, sys.maxsize),
        # A state that runs on from token to token would run on into the next sequence.
        (Qwen3NextConfig, {"num_experts": 2, "num_experts_per_tok": 1}, 0),
    ],
)
def test_what_a_configuration_says_of_its_layers_counts(config, changes, longest):
    assert longest_flat(tiny(config, {**HEADED, **changes})) == longest


@pytest.mark.parametrize(
    ("length", "learns", "dtype"),
    [
        (flat_attention.WIDENED_TOKENS, True, torch.float32),
        (flat_attention.WIDENED_TOKENS + 1, True, torch.bfloat16),
        (flat_attention.WIDENED_TOKENS, False, torch.bfloat16),
    ],
)
def test_short_rows_that_learn_in_bf16_are_attended_to_in_fp32_even_under_autocast(length, learns, dtype, monkeypatch):
    tensors, where = flat([length], dtype=torch.bfloat16)
    kernel, seen = torch.nn.functional.scaled_dot_product_attention, []

    def spy(*given, **more):
        output = kernel(*given, **more)
        seen.append(output.dtype)  # under autocast the kernel's output, not its input, says what it computed in
        return output

    monkeypatch.setattr(flat_attention.functional, "scaled_dot_product_attention", spy)
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(learns):
        rows = [tensor if learns else tensor.detach() for tensor in tensors]
        found, _ = padding_free_attention(Layer(), *rows, None, **where)
    assert (seen, found.dtype) == ([dtype], torch.bfloat16)
