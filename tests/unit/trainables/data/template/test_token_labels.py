import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.trainables.byte_tokenizer import byte_level, sentencepiece
from tests.unit.trainables.data.template.helpers import HERON, TWO, sample, tokenizer_with
from trainables.data.dataset import TokenizedSet
from trainables.data.template.rendering import Rendering
from trainables.data.template.token_labels import labeled_tokens, text_windows
from trainables.data.tokenization import tokenize


def one(tokenizer, text, *labels):
    return next(labeled_tokens(tokenizer, [Rendering(text, labels)]))


class Slow:
    """A tokenizer without offsets, as those written in Python are."""

    is_fast = False

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, texts, return_offsets_mapping=False, **options):
        assert not return_offsets_mapping
        return self._tokenizer(texts, **options)

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


@pytest.mark.parametrize("make", [lambda: byte_level(), lambda: Slow(byte_level())])
@pytest.mark.parametrize(
    ("prompt", "answer", "learnt"),
    [
        ("Q: what is the total of 2019?\nA:", " the total", " the total"),
        ("Q: what is the total of 2019?\nA: ", "the total", " the total"),  # a space is one token with its word
        ("A: ", "é🐦", "é🐦"),
        ("A:", " b<|im_end|>", " b<|im_end|>"),
    ],
)
def test_labels_keep_their_characters(make, prompt, answer, learnt):
    tokenizer = make()
    tokens = one(tokenizer, f"{prompt}{answer}\n", (len(prompt), len(prompt + answer)))
    assert tokenizer.decode(tokens.input_ids) == f"{prompt}{answer}\n"
    assert tokenizer.decode(tokens.input_ids[tokens.label_mask]).strip() == learnt.strip()
    assert tokenizer.decode(tokens.input_ids[: tokens.prompt_length]).rstrip() == prompt.rstrip()


def test_a_token_that_joins_prompt_and_answer_is_taken_apart():
    tokenizer = byte_level()
    joined = "Qb"  # one token of this tokenizer, by its corpus
    assert len(tokenizer(joined).input_ids) == 1
    tokens = one(tokenizer, f"a{joined}", (2, 3))
    assert tokenizer.decode(tokens.input_ids[tokens.label_mask]) == "b"
    assert tokenizer.decode(tokens.input_ids[: tokens.prompt_length]) == "aQ"


def test_a_whole_of_legacy_sentencepiece_is_as_servers_send_it(tmp_path):
    # Behind an end token legacy tokenizers put a space, which pieces tokenized apart do not have.
    tokenizer = sentencepiece(True)
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}[Q]{{ m.content }}[/Q]{% else %}{{ m.content }}<|im_end|>"
    )
    tokenizer.chat_template = template + "{% endif %}{% endfor %}"
    messages = [HERON, TWO, {"role": "user", "content": "And a lynx?"}, {"role": "assistant", "content": "four"}]
    tokenize([sample(*messages)], tokenizer, None, 500, tmp_path / "x.arrow")
    data = TokenizedSet(tmp_path / "x.arrow")
    assert data.input_ids(0).tolist() == tokenizer.apply_chat_template(messages, return_dict=False)
    assert tokenizer.decode(data.response_ids(0)) == "four<|im_end|>"


@pytest.mark.parametrize(
    ("wrapper", "labels"),
    [
        ("<s>[Q] {prompt} [/Q] {response}</s>", " two</s>"),
        ("[Q] {prompt} [/Q] {response}", " two</s>"),
        ("<s>[Q] {prompt} [/Q] {response}</s>\n", " two</s>"),
    ],
)
def test_a_wrapper_that_names_special_tokens_gets_no_second_ones(tmp_path, wrapper, labels):
    from tokenizers import processors

    tokenizer = tokenizer_with(None)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    adds = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = adds
    tokenize([sample(HERON, TWO)], tokenizer, wrapper, 500, tmp_path / "x.arrow")
    data = TokenizedSet(tmp_path / "x.arrow")
    ids = data.input_ids(0).tolist()
    assert (ids.count(tokenizer.bos_token_id), ids.count(tokenizer.eos_token_id)) == (1, 1)
    assert tokenizer.decode(data.response_ids(0)) == labels


@settings(deadline=None, max_examples=100)
@given(text=st.text("abc dé🐦\n", min_size=1, max_size=120), most=st.integers(8, 40), add_bos=st.booleans())
def test_windows_of_a_text_learn_every_token_once_and_in_order(text, most, add_bos):
    tokenizer = byte_level(add_bos=add_bos)
    whole = tokenizer(text, add_special_tokens=False).input_ids
    windows = text_windows(tokenizer, text, most)
    learnt = [token for window in windows for token in window.input_ids[window.label_mask].tolist()]
    assert learnt == (whole if add_bos else whole[1:])
    assert all(len(window.input_ids) <= most and window.prompt_length == 0 for window in windows)
    for window in windows:
        assert not window.label_mask[0]
        assert (window.input_ids[0] == tokenizer.bos_token_id) == add_bos or not add_bos
        assert np.diff(window.label_mask.astype(int)).min(initial=0) >= 0  # context first, then labels
    assert all(window.label_mask[: most // 8].sum() == 0 for window in windows[1:])


def test_rows_of_plain_text_need_no_template_and_ask_nothing(tmp_path):
    long = "the total of 2019 " * 20
    cases = [sample(text="the total"), sample(text=long), sample(HERON, TWO)]
    summary = tokenize(cases[:2], byte_level(None), None, 32, tmp_path / "x.arrow")
    data = TokenizedSet(tmp_path / "x.arrow")
    assert [data.ids[0], data.ids[1][:12]] == ["s", "s (part 1 of"]
    assert summary.samples == len(data) > 3
    assert summary.too_long == ()
    assert {data.group(i) for i in range(len(data))} == {"s"}
    assert [len(data.prompt_ids(i)) for i in range(len(data))] == [0] * len(data)
    assert "".join(data.item(i).response for i in range(1, len(data))) in long
    assert data.label_ends == frozenset()
