import dataclasses
import datetime
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.trainables.byte_tokenizer import CHATML, byte_level, sentencepiece
from trainables.data.dataset import TokenizedSet
from trainables.data.samples import Sample
from trainables.data.tokenization import Renderer, tokenize
from trainables.errors import UserError

ECHO_LAST = "{% for m in messages %}{{ m.content if loop.last else '(past)' }};{% endfor %}"
REFUSES = "{{ raise_exception('roles must alternate') }}"
DROPS_ANSWERS = "{% for m in messages if m.role == 'user' %}{{ m.content }};{% endfor %}"
ASKED = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
WRAPPER = "<human>: {prompt}\n<bot>: {response}"


def sample(prompt="How many?", response="42", line=1, id=None, **meta):
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return Sample(id or f"s{line}", turns, meta, line, "a.jsonl")


def conversation(*turns):
    roles = ["user", "assistant"] * len(turns)
    return Sample("c", [{"role": r, "content": t} for r, t in zip(roles, turns, strict=False)], {}, 1)


def with_key(**keys):
    asked, answer = sample().messages
    return dataclasses.replace(sample(), messages=[asked, {**answer, **keys}])


def render(case, tokenizer, template=None):
    return Renderer(tokenizer, template, {}, False).render(case).segments


def tokenized(folder, cases, tokenizer=None, template=None):
    tokenize(cases, tokenizer or byte_level(), template, 10_000, folder / "set.arrow")
    return TokenizedSet(folder / "set.arrow")


@pytest.mark.parametrize(
    ("case", "template", "segments"),
    [
        (sample(), None, [(ASKED.format("How many?"), False), ("42<|im_end|>", True), ("\n", False)]),
        (
            conversation("a", "b", "c", "d"),
            None,
            [
                (ASKED.format("a"), False),
                ("b<|im_end|>", True),
                ("\n" + ASKED.format("c"), False),
                ("d<|im_end|>", True),
                ("\n", False),
            ],
        ),
        (sample(), WRAPPER, [("<human>: How many?\n<bot>:", False), (" 42<|im_end|>", True)]),
        (sample(), "{prompt}{response}", [("How many?", False), ("42<|im_end|>", True)]),
        (
            sample(),
            "{prompt}\n\n### Answer\n{response} ###",
            [("How many?\n\n### Answer", False), ("\n42 ###<|im_end|>", True)],
        ),
        (
            sample("{response} {x}", "{prompt}"),
            "{prompt} {response}",
            [("{response} {x}", False), (" {prompt}<|im_end|>", True)],
        ),
        (sample("How? \n"), "{prompt}{response}", [("How?", False), (" \n42<|im_end|>", True)]),
    ],
)
def test_render(case, template, segments):
    assert render(case, byte_level(), template) == segments


@pytest.mark.parametrize(
    ("case", "chat_template", "template", "message"),
    [
        (sample(line=7), ECHO_LAST, None, "a.jsonl line 7, sample 's7': the chat template must show every part of a s"),
        (
            conversation("a", "b", "c", "d"),
            DROPS_ANSWERS,
            None,
            "nothing of messages[1].content, the assistant's text: 'b'",
        ),
        (sample(line=7), REFUSES, None, "line 7, sample 's7': the chat template must take its messages, got roles"),
        (sample(), None, None, "data.template: must be set for a model without a chat template"),
        (with_key(reasoning_content="so"), CHATML, WRAPPER, "a wrapper shows texts only, got reasoning_content; use a"),
        (with_key(tool_calls=[{}]), CHATML, WRAPPER, "a wrapper shows texts only, got tool_calls"),
        (dataclasses.replace(sample(), tools=[{}]), CHATML, WRAPPER, "a wrapper shows texts only, got tools"),
        (with_key(weight=0), CHATML, WRAPPER, "must have an assistant turn that is learnt, got weight 0"),
        (conversation("a", "b", "c", "d"), CHATML, WRAPPER, "takes one prompt and one response, got user, assi"),
    ],
)
def test_templates_that_do_not_fit_are_user_errors(case, chat_template, template, message):
    with pytest.raises(UserError) as caught:
        render(case, byte_level(chat_template), template)
    assert message in str(caught.value)


def test_wrapper_needs_an_end_of_text_token():
    tokenizer = type("WithoutEnd", (), {"eos_token": None})()
    with pytest.raises(UserError, match="end-of-text"):
        render(sample(), tokenizer, WRAPPER)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@settings(deadline=None, max_examples=60)
@given(pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=3), template=st.sampled_from([None, WRAPPER]))
def test_tokens_decode_to_the_rendered_text(tmp_path_factory, pairs, template):
    tokenizer = byte_level()
    case = conversation(*[text for pair in pairs[: 1 if template else 3] for text in pair])
    path = tmp_path_factory.mktemp("tokens") / "set.arrow"
    summary = tokenize([case], tokenizer, template, 10_000, path)
    data = TokenizedSet(path)
    segments = render(case, tokenizer, template)
    ids, labels = data.input_ids(0), data.label_mask(0)
    assert tokenizer.decode(ids) == "".join(text for text, _ in segments)
    assert tokenizer.decode(ids[labels]) == "".join(text for text, label in segments if label)
    assert tokenizer.decode(data.prompt_ids(0)) == "".join(
        text for text, _ in segments[: max(i for i, (_, label) in enumerate(segments) if label)]
    )
    assert data.item(0).response == case.response
    assert (summary.tokens, summary.label_tokens) == (len(ids), labels.sum())


def test_prompt_tokens_are_those_of_the_generation_prompt(tmp_path):
    tokenizer = byte_level()
    case = conversation("what is", "the total", "of 2019?", "1,234.5 million")
    expected = tokenizer.apply_chat_template(case.messages[:-1], add_generation_prompt=True, return_dict=False)
    assert tokenized(tmp_path, [case], tokenizer).prompt_ids(0).tolist() == expected


@pytest.mark.parametrize(("legacy", "answer"), [(False, "42"), (True, "42"), (True, " 42")])
def test_sentencepiece_segments_are_joined_without_an_extra_space(tmp_path, legacy, answer):
    tokenizer = sentencepiece(legacy)
    prompt = "<human>: How many?\n<bot>:"
    alone = [token for text in (prompt, answer) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert tokenizer.decode(alone) == f"{prompt} {answer}", "the flaw that is guarded against"
    template = "<human>: {prompt}\n<bot>:" + " " * answer.startswith(" ") + "{response}"
    ids = tokenized(tmp_path, [sample()], tokenizer, template).input_ids(0).tolist()
    assert tokenizer.decode(ids[1:]) == f"{prompt}{answer}<|im_end|>"
    assert ids == tokenizer(f"{prompt}{answer}<|im_end|>")["input_ids"]


@pytest.mark.parametrize("add_bos", [True, False])
def test_a_wrapper_begins_as_the_tokenizer_begins(tmp_path, add_bos):
    tokenizer = byte_level(add_bos=add_bos)
    data = tokenized(tmp_path, [sample()], tokenizer, WRAPPER)
    assert data.prompt_ids(0).tolist() == tokenizer("<human>: How many?\n<bot>:")["input_ids"]
    assert (data.input_ids(0)[0] == tokenizer.bos_token_id) == add_bos
    assert not data.label_mask(0)[0]


LONG = [sample(line=1), sample("x" * 200, line=2), sample(line=3), sample("x" * 300, line=4)]


def test_too_long_samples_are_left_out_whole_and_listed(tmp_path):
    summary = tokenize(LONG, byte_level(), None, 100, tmp_path / "set.arrow")
    data = TokenizedSet(tmp_path / "set.arrow")
    assert data.ids == ["s1", "s3"]
    assert [(row.id, row.line) for row in summary.too_long] == [("s2", 2), ("s4", 4)]
    assert all(row.tokens > 200 for row in summary.too_long)
    assert summary.lengths.tolist() == data.lengths.tolist() == [len(data.input_ids(i)) for i in range(2)]
    for limit, samples in ((data.lengths[0], 1), (data.lengths[0] - 1, 0)):
        assert tokenize([sample()], byte_level(), None, limit, tmp_path / "other.arrow").samples == samples


def test_a_failure_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "set.arrow"
    tokenize([sample()], byte_level(), None, 1000, path)
    before = path.read_bytes()
    unfit = dataclasses.replace(sample(), messages=[{"role": "system", "content": "Be brief."}, *sample().messages])
    with pytest.raises(UserError, match="a wrapper takes one prompt and one response"):
        tokenize([sample(), unfit], byte_level(), WRAPPER, 1000, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["set.arrow"]


def test_unwritable_target_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "set.arrow", tmp_path / "missing" / "set.arrow"):
        with pytest.raises(UserError, match="must be writable"):
            tokenize([sample()], byte_level(), None, 1000, path)


def test_metadata_and_groups_are_kept(tmp_path):
    odd = {"date": datetime.date(2020, 1, 2), "lone": "\ud800", "n": {"m": [1, None]}}
    cases = [sample(line=1, group="page-7", **odd), sample(line=2, group=7), sample(line=3)]
    data = tokenized(tmp_path, cases)
    assert data.item(0).meta == {"group": "page-7", "date": "2020-01-02", "lone": "\ud800", "n": {"m": [1, None]}}
    assert [data.group(0), data.group(1)] == ["page-7", "7"]
    assert data.group(2).startswith("context-")


def test_many_samples_are_written_in_order_over_several_chunks(tmp_path):
    cases = [sample(f"q{i}" * (1 + i % 7), f"r{i}", line=i) for i in range(1, 1201)]
    tokenizer = byte_level()
    data = tokenized(tmp_path, cases, tokenizer)
    assert data.ids == [case.id for case in cases]
    for i in (0, 511, 512, 1023, 1024, 1199):
        assert tokenizer.decode(data.input_ids(i)[data.label_mask(i)]) == f"r{i + 1}<|im_end|>"
        assert data.item(i).prompt == cases[i].prompt
    assert np.array_equal(data.lengths, [len(data.input_ids(i)) for i in range(1200)])


def test_reading_and_tokenizing_import_no_framework():
    code = (
        "import sys, trainables.data.samples, trainables.data.tokenization, trainables.data.epoch; "
        "sys.exit(', '.join({'torch', 'transformers', 'datasets', 'ray'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
