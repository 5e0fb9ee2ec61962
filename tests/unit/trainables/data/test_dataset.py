import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trainables.byte_tokenizer import byte_level
from trainables.data.dataset import TokenizedSet, TokenSequence, collate, pad
from trainables.data.samples import Sample
from trainables.data.tokenization import tokenize
from trainables.errors import UserError


def sequence(ids, labels, id="s"):
    return TokenSequence(id, np.array(ids, dtype=np.int32), np.array(labels, dtype=bool))


@st.composite
def sequences(draw):
    def one(index):
        labels = draw(st.lists(st.booleans(), min_size=1, max_size=12))
        ids = draw(st.lists(st.integers(0, 50_000), min_size=len(labels), max_size=len(labels)))
        return sequence(ids, [False, *labels[1:]], f"s{index}")

    return [one(index) for index in range(draw(st.integers(1, 6)))]


def test_collate_by_hand():
    batch = collate([sequence([5, 6, 7], [0, 1, 1], "a"), sequence([8], [0], "b"), sequence([9, 10], [0, 1], "c")])
    assert batch.input_ids.tolist() == [5, 6, 7, 8, 9, 10]
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 0, 1]
    assert batch.cu_seqlens.tolist() == [0, 3, 4, 6]
    assert batch.label_positions.tolist() == [0, 1, 4]
    assert batch.labels.tolist() == [6, 7, 10]
    assert batch.label_item.tolist() == [0, 0, 2]
    assert (batch.ids, batch.max_length, len(batch), batch.tokens, batch.label_tokens) == (("a", "b", "c"), 3, 3, 6, 3)


@given(sequences())
def test_each_label_is_predicted_from_its_own_sequence(given_sequences):
    batch = collate(given_sequences)
    dtypes = {name: getattr(batch, name).dtype for name in ("input_ids", "position_ids", "label_positions", "labels")}
    assert set(dtypes.values()) == {torch.int64}
    assert (batch.cu_seqlens.dtype, batch.label_item.dtype) == (torch.int32, torch.int64)
    found = [[] for _ in given_sequences]
    for position, label, item in zip(batch.label_positions, batch.labels, batch.label_item, strict=True):
        start, stop = batch.cu_seqlens[item], batch.cu_seqlens[item + 1]
        assert start <= position < stop - 1
        assert batch.input_ids[position + 1] == label
        assert batch.position_ids[position] == position - start
        found[item].append(int(label))
    assert found == [s.input_ids[s.label_mask].tolist() for s in given_sequences]
    for b, s in enumerate(given_sequences):
        assert batch.input_ids[batch.cu_seqlens[b] : batch.cu_seqlens[b + 1]].tolist() == s.input_ids.tolist()


@given(sequences())
def test_padding_keeps_every_token_and_label(given_sequences):
    batch = collate(given_sequences)
    input_ids, mask, (rows, columns) = pad(batch, pad_id=-7)
    assert input_ids.shape == mask.shape == (len(given_sequences), max(len(s.input_ids) for s in given_sequences))
    for row, s in enumerate(given_sequences):
        length = len(s.input_ids)
        assert input_ids[row].tolist() == s.input_ids.tolist() + [-7] * (input_ids.shape[1] - length)
        assert mask[row].tolist() == [1] * length + [0] * (input_ids.shape[1] - length)
    assert torch.equal(input_ids[rows, columns + 1], batch.labels)
    assert torch.equal(rows, batch.label_item)


@pytest.mark.parametrize("bad", [[], [sequence([], [])], [sequence([1, 2], [1, 1])]])
def test_collate_refuses_what_no_model_can_predict(bad):
    with pytest.raises(ValueError, match="not a label"):
        collate(bad)


def test_batch_moves_to_a_device():
    moved = collate([sequence([5, 6], [0, 1])]).to("meta")
    tensors = (moved.input_ids, moved.cu_seqlens, moved.labels, moved.label_item)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.ids == ("s",)


@pytest.fixture
def data(tmp_path):
    samples = [
        Sample(f"s{i}", [{"role": "user", "content": p}, {"role": "assistant", "content": "r"}], {"area": "a"}, i)
        for i, p in enumerate(["Table 1\n\nQuestion: a?", "Table  1\n\nQuestion: b?", "Table 2\n\nQuestion: a?"])
    ]
    tokenize(samples, byte_level(), None, 1000, tmp_path / "set.arrow")
    return TokenizedSet(tmp_path / "set.arrow")


def test_tokens_are_views_of_the_mapped_file(data):
    allocated = pa.total_allocated_bytes()
    view = data.input_ids(1)
    assert view.base is not None
    assert not view.flags.writeable
    assert pa.total_allocated_bytes() == allocated
    assert view.dtype == np.int32
    assert data.label_mask(1).dtype == np.bool_


def test_items_groups_and_batches_also_of_a_set_sent_to_another_process(data):
    data = pickle.loads(pickle.dumps(data))
    assert data.ids == ["s0", "s1", "s2"]
    item = data.item(1)
    assert (item.id, item.prompt, item.response, item.meta) == ("s1", "Table  1\n\nQuestion: b?", "r", {"area": "a"})
    assert data.group(0) == data.group(1) != data.group(2)
    batch = data.batch(np.array([2, 0]))
    assert batch.ids == ("s2", "s0")
    assert batch.input_ids.tolist() == [*data.input_ids(2).tolist(), *data.input_ids(0).tolist()]


@pytest.mark.parametrize("i", [-1, 3])
def test_a_sample_outside_the_set_is_an_error(data, i):
    for read in (data.input_ids, data.label_mask, data.prompt_ids, data.item, data.group):
        with pytest.raises(IndexError):
            read(i)


def test_files_that_are_not_tokenized_data_are_user_errors(tmp_path):
    (tmp_path / "text.arrow").write_text("no Arrow file")
    with pa.OSFile(str(tmp_path / "other.arrow"), "wb") as sink:
        table = pa.table({"x": [1]})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    for name in ("missing.arrow", "text.arrow", "other.arrow", "."):
        with pytest.raises(UserError):
            TokenizedSet(tmp_path / name)


def test_a_set_of_version_0_1_is_read_as_it_was():
    cache = Path(__file__).parents[3] / "data" / "sweep_of_0_1" / "cache"
    for name in ("train", "heldout-tables"):
        data = TokenizedSet(cache / f"{name}.arrow")
        assert data.answer_mark(0) is None
        assert data.response_ids(0)[-1] in data.label_ends
        assert data.item(0).response
