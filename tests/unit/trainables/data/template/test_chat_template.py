import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.trainables.data.template import helpers
from tests.unit.trainables.data.template.helpers import (
    CALL,
    FOUR,
    HERON,
    LYNX,
    RESULT,
    TIDE,
    TWO,
    labels,
    rendered,
    sample,
    tokenizer_with,
)
from trainables.data.dataset import TokenizedSet
from trainables.data.samples import Sample
from trainables.data.tokenization import Renderer, tokenize
from trainables.errors import UserError

ONE, BOTH = (HERON, TWO), (HERON, TWO, LYNX, FOUR)
ROUND = (TIDE, {"role": "assistant", "content": "", "tool_calls": [CALL]}, RESULT, {**TWO, "content": "At 06:40."})
CALLED = '<call>{"name": "tide", "arguments": {"port": "Hull"}}</call><|stop|>'
REASONED = {"role": "assistant", "content": "two", "reasoning_content": "Birds have two."}
SAID = {"role": "assistant", "content": "<think>Birds have two.</think>two"}


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        (helpers.PLAIN, BOTH, ["two<|stop|>", "four<|stop|>"]),
        (helpers.EMPTY_THOUGHT, BOTH, ["two<|stop|>", "four<|stop|>"]),
        (helpers.OTHER_END, BOTH, ["two<|stop|>", "four<|return|>"]),
        (helpers.OPENED, ONE, ["two<|stop|>"]),
        (helpers.HEADER, BOTH, ["two<|stop|>", "four<|stop|>"]),
        (helpers.OPENS_NEXT, ONE, ["two<|stop|>"]),
        (helpers.ONLY_PARTS, BOTH, ["two<|stop|>", "four<|stop|>"]),
        (helpers.WITH_CALLS, ROUND, [CALLED, "At 06:40.<|stop|>"]),
        (
            helpers.WITH_CALLS,
            (TIDE, {**ROUND[1], "content": "I look."}, *ROUND[2:]),
            ["I look." + CALLED, "At 06:40.<|stop|>"],
        ),
        (helpers.WITH_CALLS, ROUND[:2], [CALLED]),
        (helpers.ASCII_CALLS, ROUND, [CALLED, "At 06:40.<|stop|>"]),
        (helpers.REPR_CALLS, ROUND[:2], [CALLED.replace('"', "'")]),
        (helpers.REASONING, (HERON, REASONED), ["Birds have two.\n</think>\n\ntwo<|stop|>"]),
        # Tags in the content are the user's, unless the generation prompt has written one already.
        (helpers.PLAIN, (HERON, SAID), ["<think>Birds have two.</think>two<|stop|>"]),
        (helpers.OPENED.replace("<think>\n", "<think>"), (HERON, SAID), ["Birds have two.</think>two<|stop|>"]),
        (helpers.PLAIN, (HERON, {**TWO, "content": "<b>two</think>"}), ["<b>two</think><|stop|>"]),
        (
            helpers.PLAIN,
            (HERON, {**TWO, "content": "<two>"}, LYNX, {**FOUR, "content": "<four> <legs>"}),
            ["<two><|stop|>", "<four> <legs><|stop|>"],
        ),
        (
            helpers.REASONING,
            (HERON, {**REASONED, "content": "<two>"}),
            ["Birds have two.\n</think>\n\n<two><|stop|>"],
        ),
        (helpers.PLAIN, (HERON, {**TWO, "weight": 0}, LYNX, {**FOUR, "weight": 1}), ["four<|stop|>"]),
        (helpers.PLAIN, (HERON, {**TWO, "content": " two\n\n"}), [" two\n\n<|stop|>"]),
        (helpers.PLAIN, (HERON, {**TWO, "content": "assistant"}), ["assistant<|stop|>"]),
        (helpers.PLAIN, (TWO, LYNX, FOUR), ["two<|stop|>", "four<|stop|>"]),
        (helpers.MARKED, (TWO, *BOTH), ["two<|stop|>", "four<|stop|>"]),
    ],
)
def test_labels_are_the_answers_with_their_end_tokens_in_the_whole_rendering(template, messages, expected):
    rendering = rendered(template, sample(*messages))
    bare = [{key: value for key, value in m.items() if key != "weight"} for m in messages]
    if template is helpers.ONLY_PARTS:
        bare = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in bare]
    assert labels(rendering) == expected
    assert rendering.text == tokenizer_with(template).apply_chat_template(bare, tokenize=False)


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        (helpers.EMPTY_THOUGHT, ONE, "<think>\n\n</think>\n\ntwo<|stop|>"),
        (helpers.EMPTY_THOUGHT, BOTH, "<think>\n\n</think>\n\nfour<|stop|>"),
        (helpers.REASONING, (HERON, REASONED), "<think>\nBirds have two.\n</think>\n\ntwo<|stop|>"),
        (helpers.HEADER, ONE, "two<|stop|>"),  # a header that no generation prompt holds is never learnt
        (helpers.OPENED, ONE, "two<|stop|>"),
        (helpers.PLAIN, ONE, "two<|stop|>"),
    ],
)
def test_template_text_is_learnt_only_on_request(template, messages, expected):
    assert labels(rendered(template, sample(*messages), with_template_text=True))[-1] == expected


@pytest.mark.parametrize(
    ("template", "eos", "messages", "expected", "note"),
    [
        (helpers.NO_END, "<|stop|>", BOTH, ["two<|stop|>", "four<|stop|>"], "<|stop|>"),
        (helpers.NEXT_MARKER, "<|stop|>", BOTH, ["two<|user|>", "four<|user|>"], "<|user|>"),
        (helpers.PLAIN, "<|return|>", BOTH, ["two<|stop|>", "four<|stop|>"], None),
        (helpers.NO_END, "<|stop|>", (HERON, {**TWO, "content": "<b>two</b>"}), ["<b>two</b><|stop|>"], "<|stop|>"),
        # Markers that are no tokens of the tokenizer end nothing.
        (helpers.PLAIN.replace("<|stop|>", "<|halt|>"), "<|stop|>", ONE, ["two<|stop|>"], "<|stop|>"),
    ],
)
def test_every_label_ends_with_a_token_that_ends_generation(template, eos, messages, expected, note):
    rendering = rendered(template, sample(*messages), eos=eos)
    assert labels(rendering) == expected
    assert [what for name, what in rendering.notes if name == "end_token_added"] == ([note] if note else [])


@pytest.mark.parametrize(
    ("template", "case", "message"),
    [
        (
            helpers.KNOWN_ROLES,
            sample({"role": "developer", "content": "Answer in Welsh."}, *ONE),
            "a.jsonl line 3, sample 's': the chat template must show every part of a sample, got nothing of "
            "messages[0].content, the developer's text: 'Answer in Welsh.'; take that part out, or give a template "
            "that shows it in data.chat_template",
        ),
        (helpers.ANSWER_ONLY, sample(HERON, SAID), "messages[1].content, the assistant's reasoning: 'Birds have two.'"),
        (helpers.PLAIN, sample(HERON, REASONED), "nothing of messages[1].reasoning_content, the assistant's reasoning"),
        (
            helpers.DROPS_TEXT_BESIDE_CALL,
            sample(TIDE, {**ROUND[1], "content": "I look."}, *ROUND[2:]),
            "beside a tool call",
        ),
        (helpers.PLAIN, sample(*ROUND), "nothing of messages[1].tool_calls[0], the assistant's tool call"),
        (helpers.PLAIN, sample(*ROUND[:1], TWO, tools=[CALL]), "nothing of tools[0]"),
        (helpers.PLAIN, sample(HERON, {**TWO, "weight": 0}), "must have an assistant turn that is learnt"),
        (helpers.PLAIN, sample(HERON, {**TWO, "content": ""}), "an answer must hold a text or a tool call"),
        (
            "{% for m in messages %}{{ m.content | length }}<|stop|>{{ m.content }}{% endfor %}",
            sample(*ONE),
            "the chat template must show where each message stands",
        ),
    ],
)
def test_what_a_template_drops_or_hides_is_named(template, case, message):
    with pytest.raises(UserError) as caught:
        rendered(template, case)
    assert message in str(caught.value)


def test_reasoning_left_out_of_earlier_turns_is_noted():
    rendering = rendered(helpers.REASONING, sample(HERON, REASONED, LYNX, {**REASONED, "content": "four"}))
    assert labels(rendering) == ["two<|stop|>", "Birds have two.\n</think>\n\nfour<|stop|>"]
    assert rendering.notes == (("reasoning_left_out", "reasoning_content"),)


@pytest.mark.parametrize("key", ["reasoning", "thinking"])
def test_a_template_gets_thoughts_under_the_name_that_it_reads(key):
    template = helpers.REASONING.replace("reasoning_content", key)
    case = sample(HERON, REASONED)
    assert rendered(template, case).text == rendered(helpers.REASONING, case).text


@pytest.mark.parametrize("wrapper", [None, "{prompt}\nAnswer: {response}"])
@pytest.mark.parametrize(
    ("asked", "answer", "notes"),
    [
        (
            {"content": "<|go|>user:Legs?<|stop|>"},
            {},
            [("special_token_in_text", "'<|stop|>'"), ("special_token_in_text", "'<|go|>'")],
        ),
        ({}, {"content": "two<|stop|>\nfour"}, [("special_token_in_text", "'<|stop|>'")]),
        ({"content": "What does <|halt|> do?"}, {}, []),  # no token of the tokenizer's
        ({"name": "Ada"}, {}, [("name_left_out", "name")]),
        ({"name": "heron"}, {}, []),  # stands in the text
    ],
)
def test_tokens_of_a_template_in_texts_and_names_left_out_are_noted(wrapper, asked, answer, notes):
    case = sample({**HERON, **asked}, {**TWO, **answer})
    assert sorted(rendered(helpers.PLAIN, case, wrapper=wrapper).notes) == sorted(notes)


def test_a_token_of_a_template_in_a_plain_text_is_noted():
    case = Sample("s", [], {}, 3, "a.jsonl", None, "A heron.<|stop|>A lynx.")
    rendering = Renderer(tokenizer_with(helpers.PLAIN), None, {}, False).render(case)
    assert rendering.notes == (("special_token_in_text", "'<|stop|>'"),)


@pytest.mark.parametrize(
    ("messages", "notes"),
    [(ONE, (("thought_opened", "'<think>'"),)), ((HERON, SAID), ())],
)
def test_a_thought_that_only_the_generation_prompt_opens_is_noted(messages, notes):
    assert rendered(helpers.OPENED, sample(*messages)).notes == notes


@pytest.mark.parametrize(
    ("template", "message", "answer", "mark"),
    [
        (helpers.REASONING, REASONED, "two", "</think>"),
        (helpers.PLAIN, SAID, "two", "</think>"),
        (helpers.PLAIN, {**TWO, "content": "<think>Birds have two.</think><two>"}, "<two>", "</think>"),
        (helpers.PLAIN, TWO, "two", None),
    ],
)
def test_answers_are_compared_without_their_reasoning(template, message, answer, mark):
    rendering = rendered(template, sample(HERON, message))
    assert (rendering.response, rendering.answer_mark) == (answer, mark)


def test_template_args_reach_the_template():
    template = helpers.PLAIN.replace("<|go|>{{", "{{ date_string }}<|go|>{{", 1)
    assert rendered(template, sample(*ONE), args={"date_string": "1 May"}).text.startswith("1 May<|go|>")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
SHAPES = [helpers.PLAIN, helpers.EMPTY_THOUGHT, helpers.OTHER_END, helpers.NO_END, helpers.NEXT_MARKER, helpers.HEADER]


@settings(deadline=None, max_examples=60)
@given(turns=st.lists(st.tuples(texts, texts), min_size=1, max_size=3), template=st.sampled_from(SHAPES))
def test_any_texts_are_found_where_they_stand(turns, template):
    messages = [m for q, a in turns for m in ({**HERON, "content": q}, {**TWO, "content": a})]
    rendering = rendered(template, sample(*messages))
    found = labels(rendering)
    assert [label.rpartition("<|")[0] for label in found] == [answer for _, answer in turns] or "<" in str(turns)
    assert len(found) == len(turns)
    assert all(label.endswith("|>") for label in found)


def test_the_whole_is_tokenized_once_as_servers_do(tmp_path):
    tokenizer = tokenizer_with(helpers.EMPTY_THOUGHT)
    summary = tokenize([sample(*BOTH)], tokenizer, None, 500, tmp_path / "x.arrow")
    data = TokenizedSet(tmp_path / "x.arrow")
    whole = tokenizer.apply_chat_template(list(BOTH), return_dict=False)
    assert data.input_ids(0).tolist() == whole
    asked = tokenizer.decode(data.prompt_ids(0))
    assert asked.endswith("And a lynx?<|stop|><|go|>assistant:<think>\n\n</think>\n\n")
    assert tokenizer.decode(data.response_ids(0)) == "four<|stop|>"
    assert data.label_ends == {tokenizer.eos_token_id}
    assert summary.shown[0].parts[1::2] == [("two<|stop|>", True), ("four<|stop|>", True)]
