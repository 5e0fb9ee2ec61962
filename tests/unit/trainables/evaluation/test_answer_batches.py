"""Which prompts are answered together: limited by their number and by the memory of their keys and values."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.evaluation import answer_batches
from trainables.evaluation.answer_batches import cache_bytes_per_token, halved, prompt_batches

GIB = 1 << 30
EIGHT_B = {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}


@pytest.mark.parametrize(
    ("config", "size", "expected"),
    [
        (EIGHT_B, 2, 2 * 36 * 8 * 128 * 2),
        ({"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}, 4, 46080),
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}, 4, 2 * 2 * 32 * 4),
        ({"num_hidden_layers": 2, "hidden_size": 32}, 4, 0),  # no attention, no cache
    ],
)
def test_a_tokens_keys_and_values(config, size, expected):
    assert cache_bytes_per_token(SimpleNamespace(**config), size) == expected


@pytest.mark.parametrize(
    ("lengths", "most", "expected"),
    [
        ([100] * 40, 32, [32, 8]),  # short prompts: the number decides, as ever
        ([4064] * 16, 32, [7, 7, 2]),  # 8B at 4k tokens: 0.56 GiB a prompt, 7 in 4 GiB
        ([40_000, 100, 100], 32, [1, 2]),  # one that is too long goes alone
        ([5], 1, [1]),
    ],
)
def test_batches_of_an_8b_model(lengths, most, expected):
    each = cache_bytes_per_token(SimpleNamespace(**EIGHT_B), 2)
    assert [len(batch) for batch in prompt_batches(lengths, 32, most, each)] == expected


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.integers(1, 40), st.integers(0, 1 << 20))
def test_every_prompt_is_in_one_batch_that_fits_and_the_longest_is_first(lengths, most, each):
    batches = prompt_batches(lengths, 16, most, each)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        needed = len(batch) * (max(lengths[place] for place in batch) + 16) * each
        assert len(batch) == 1 or (len(batch) <= most and needed <= answer_batches.CACHE_BYTES)
    flat = [lengths[place] for batch in batches for place in batch]
    assert flat == sorted(lengths, reverse=True)
    assert [place for batch in halved(batches) for place in batch] == [place for batch in batches for place in batch]


def test_halves():
    assert halved([[1, 2, 3], [4], [5, 6]]) == [[1, 2], [3], [4], [5], [6]]
