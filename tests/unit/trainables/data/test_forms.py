"""Every form of rows and files that people have, and what each becomes."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.config.data_sections import FieldNames
from trainables.data.json_lines import RawLine
from trainables.data.samples import Sample, parse_sample, unread_keys
from trainables.data.sources import read_raw
from trainables.errors import UserError

PAIR = {"prompt": "p", "response": "r"}
TURNS = [("user", "p"), ("assistant", "r")]
CHAT = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]
SHAREGPT = [{"from": "human", "value": "p"}, {"from": "gpt", "value": "r"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": {"port": "Hull"}}}
CALL_AS_TEXT = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": '{"port": "Hull"}'}}
BARE_CALL = '{"name": "tide", "arguments": {"port": "Hull"}}'
TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}
TOOL_ROUND = [("user", "p"), ("assistant", ""), ("tool", "06:40"), ("assistant", "r")]


def parsed(row, fields=None, form="auto"):
    return parse_sample("data.jsonl", RawLine(3, json.dumps(row).encode()), FieldNames(**(fields or {})), form)


def turns(sample):
    return [(message["role"], message["content"]) for message in sample.messages]


def chat(*messages):
    return {"messages": list(messages)}


FORMS = [
    ("prompt_response", PAIR, {}, TURNS),
    ("messages", {"messages": CHAT}, {}, TURNS),
    ("messages", {"messages": json.dumps(CHAT)}, {}, TURNS),
    ("messages", {"conversations": CHAT}, {}, TURNS),
    ("messages", {"dialog": CHAT}, {"messages": "dialog"}, TURNS),
    ("sharegpt", {"conversations": SHAREGPT}, {}, TURNS),
    ("sharegpt", {"messages": SHAREGPT, "system": ""}, {}, TURNS),
    ("sharegpt", {"conversations": {"from": ["human", "gpt"], "value": ["p", "r"]}}, {}, TURNS),
    ("sharegpt", {"conversation": [{"human": "p", "assistant": "r"}]}, {}, TURNS),
    ("sharegpt", {"conversation": [{"system": "s", "input": "p", "output": "r"}]}, {}, [("system", "s"), *TURNS]),
    ("prompt_completion", {"prompt": "p", "completion": "r"}, {}, TURNS),
    ("prompt_completion", {"prompt": CHAT[:1], "completion": CHAT[1:]}, {}, TURNS),
    ("prompt_completion", {"prompt": json.dumps(CHAT[:1]), "completion": json.dumps(CHAT[1:])}, {}, TURNS),
    ("prompt_response", {"prompt": "[p]", "response": '["r"]'}, {}, [("user", "[p]"), ("assistant", '["r"]')]),
    ("prompt_completion", {"prompt": CHAT[:1], "completion": CHAT[1:], "label": True}, {}, TURNS),
    ("alpaca", {"instruction": "p", "input": "", "output": "r"}, {}, TURNS),
    ("alpaca", {"instruction": "p", "input": "i", "output": "r"}, {}, [("user", "p\ni"), TURNS[1]]),
    ("alpaca", {"instruction": "p", "context": "i", "response": "r"}, {}, [("user", "p\ni"), TURNS[1]]),
    ("alpaca", {"instruction": "", "input": "i", "output": "r"}, {}, None),
    ("alpaca", {"instruction": "p", "output": "r", "text": "### Instruction: p\n### Response: r"}, {}, TURNS),
    (
        "prompt_response",
        {"instruction": "p", "input": "i", "output": "r"},
        {"prompt": "instruction", "response": "output"},
        [("user", "p\ni"), TURNS[1]],
    ),
    (
        "prompt_response",
        {"q": "p", "passage": "i", "a": "r"},
        {"prompt": "q", "response": "a", "input": "passage"},
        [("user", "p\ni"), TURNS[1]],
    ),
    ("query_response", {"query": "p", "response": "r"}, {}, TURNS),
    ("prompt_response", PAIR | {"history": [["a", "b"]]}, {}, [("user", "a"), ("assistant", "b"), *TURNS]),
    ("prompt_response", PAIR | {"history": '[["a", "b"]]'}, {}, [("user", "a"), ("assistant", "b"), *TURNS]),
    ("prompt_response", PAIR | {"history": []}, {}, TURNS),
    ("prompt_response", PAIR | {"system": "s"}, {}, [("system", "s"), *TURNS]),
    ("messages", {"messages": CHAT, "system_prompt": "s"}, {}, [("system", "s"), *TURNS]),
    ("prompt_response", PAIR | {"persona": "s"}, {"system": "persona"}, [("system", "s"), *TURNS]),
    ("prompt_response", PAIR | {"messages": []}, {}, TURNS),
    ("prompt_response", PAIR | {"messages": None}, {}, TURNS),
    ("messages", PAIR | {"messages": CHAT}, {}, TURNS),
    ("messages", {"messages": CHAT, "prompt": None, "response": None}, {}, TURNS),
    (
        "prompt_response",
        {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": SHAREGPT[1]},
        {"prompt": "conversations", "response": "chosen"},
        TURNS,
    ),
    ("messages", {"chosen": CHAT, "rejected": CHAT}, {"messages": "chosen"}, TURNS),
]


@pytest.mark.parametrize(("form", "row", "fields", "expected"), FORMS)
def test_a_form_is_told_by_its_keys_and_read(form, row, fields, expected):
    sample = parsed(row, fields)
    if expected is None:  # Alpaca's own reader would ask nothing above the input
        expected = [("user", "i"), TURNS[1]]
    assert isinstance(sample, Sample), sample
    assert (sample.form, turns(sample), sample.text) == (form, expected, None)
    assert sample.id == "line-3"


MESSAGES = [
    ([{"role": "User", "content": "p"}, {"role": "Assistant", "content": "r"}], TURNS),
    ([{"role": "human", "content": "p"}, {"role": "gpt", "content": "r"}], TURNS),
    ([{"role": "developer", "content": "d"}, *CHAT], [("developer", "d"), *TURNS]),
    ([{"role": "observation", "content": "d"}, *CHAT], [("observation", "d"), *TURNS]),
    ([{"role": "assistant", "content": "Hello."}, *CHAT], [("assistant", "Hello."), *TURNS]),
    ([{"role": "system", "content": None}, *CHAT], [("system", ""), *TURNS]),
    (
        [{"role": "user", "content": [{"type": "text", "text": "p"}, {"type": "text", "value": "q"}]}, CHAT[1]],
        [("user", "pq"), TURNS[1]],
    ),
    ([{"role": "user", "content": ["p", "q"]}, CHAT[1]], [("user", "pq"), TURNS[1]]),
    ([{"role": "prompter", "text": "p"}, {"role": "assistant", "text": "r"}], TURNS),  # OASST
    ([{"role": "user", "parts": [{"text": "p"}]}, {"role": "model", "parts": [{"text": "r"}]}], TURNS),  # Gemini
]


@pytest.mark.parametrize(("messages", "expected"), MESSAGES)
def test_roles_and_parts_of_messages(messages, expected):
    assert turns(parsed({"messages": messages})) == expected


def tool_round(call, result=None):
    return [CHAT[0], call, result or {"role": "tool", "content": "06:40"}, CHAT[1]]


CALLS = [
    tool_round({"role": "assistant", "content": None, "tool_calls": [CALL_AS_TEXT]}),
    tool_round({"role": "assistant", "tool_calls": [CALL]}),
    tool_round({"role": "assistant", "content": "", "tool_calls": [CALL_AS_TEXT], "function_call": None}),
    tool_round({"role": "assistant", "content": "", "tool_calls": json.dumps([CALL])}),
    tool_round({"role": "assistant", "content": "", "tool_calls": [json.loads(BARE_CALL)]}),
    tool_round(
        {"role": "assistant", "content": None, "function_call": {"name": "tide", "arguments": '{"port": "Hull"}'}},
        {"role": "function", "name": "tide", "content": "06:40"},
    ),
    tool_round({"role": "tool_call", "content": BARE_CALL}, {"role": "tool_response", "content": "06:40"}),
    tool_round({"role": "function_call", "content": BARE_CALL}, {"role": "observation", "content": "06:40"}),
    tool_round({"role": "assistant", "content": [{"type": "tool_call", "value": BARE_CALL}]}),
    tool_round(
        {"role": "assistant", "content": [{"type": "tool_use", "name": "tide", "input": {"port": "Hull"}}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "06:40"}]},
    ),
    [
        SHAREGPT[0],
        {"from": "function_call", "value": BARE_CALL},
        {"from": "observation", "value": "06:40"},
        SHAREGPT[1],
    ],
]


@pytest.mark.parametrize("messages", CALLS)
def test_tool_calls_have_objects_as_arguments_in_every_form(messages):
    sample = parsed({"messages": messages})
    assert turns(sample) == TOOL_ROUND
    (call,) = sample.messages[1]["tool_calls"]
    assert call["function"] == CALL["function"]
    assert call.get("id") in (None, "c1")
    assert sample.prompt == f"p\n\n{BARE_CALL}\n\n06:40"


def test_calls_in_turns_of_their_own_are_one_turn_and_a_last_call_is_the_response():
    calls = [{"role": "tool_call", "content": BARE_CALL}, {"role": "tool_call", "content": BARE_CALL}]
    sample = parsed(chat(CHAT[0], *calls))
    assert [len(message.get("tool_calls", [])) for message in sample.messages] == [0, 2]
    assert sample.response == f"{BARE_CALL}\n{BARE_CALL}"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("tools", [TOOL], [TOOL]),
        ("tools", json.dumps([TOOL]), [TOOL]),
        ("tools", [json.dumps(TOOL)], [TOOL]),
        ("tools", [TOOL["function"]], [TOOL]),
        ("tools", [{"type": "function", "function": {"name": "tide", "parameters": '{"type": "object"}'}}], [TOOL]),
        ("functions", [TOOL["function"]], [TOOL]),
        ("tools", [{"name": "tide", "input_schema": {"type": "object"}}], [TOOL]),  # Anthropic
        ("tools", [{"name": "tide", "inputSchema": {"type": "object"}}], [TOOL]),  # MCP
        ("tools", "[]", None),
        ("tools", "", None),
        ("tools", None, None),
    ],
)
def test_definitions_of_tools_in_every_form(key, value, expected):
    sample = parsed({"messages": CHAT, key: value})
    assert sample.tools == expected
    assert set(sample.meta) <= {key}


def test_reasoning_stays_apart_from_the_answer():
    parts = [{"type": "reasoning", "value": "t"}, {"type": "text", "value": "r"}]
    thinking = [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "r"}]
    rows = [
        chat(CHAT[0], {"role": "assistant", "content": parts}),
        chat(CHAT[0], {"role": "assistant", "content": thinking}),
        chat(CHAT[0], {"role": "assistant", "content": "r", "reasoning_content": "t"}),
        chat(CHAT[0], {"role": "assistant", "content": "r", "reasoning_content": [{"type": "text", "text": "t"}]}),
        PAIR | {"reasoning_content": "t"},
        *(chat(CHAT[0], CHAT[1] | {key: "t"}) for key in ("reasoning", "thinking")),
        chat(CHAT[0], CHAT[1] | {"reasoning": "t", "reasoning_content": "t"}),
    ]
    for row in rows:
        assert parsed(row).messages[1] == {"role": "assistant", "content": "r", "reasoning_content": "t"}
        assert not list(unread_keys(parsed(row)))


MARKS = [
    ("weight", 0, 1),
    ("weight", 0.0, 1.0),
    ("loss_weight", 0.0, 1.0),
    ("loss_scale", 0, 1.0),
    ("loss", False, True),
    ("train", False, True),
    ("training", False, True),
    ("train_on_turn", False, True),
    ("output_with_loss", False, True),
    ("masked", True, False),
    ("mask", True, None),
]


@pytest.mark.parametrize(("key", "against", "wanted"), MARKS)
def test_a_turn_marked_as_not_to_be_learnt_weighs_nothing(key, against, wanted):
    marked = [CHAT[0], CHAT[1] | {"content": "No.", key: against}, CHAT[0], CHAT[1] | {key: wanted}]
    sample = parsed({"messages": marked})
    assert [message.get("weight") for message in sample.messages] == [None, 0, None, None]
    assert all(set(message) <= {"role", "content", "weight"} for message in sample.messages)
    assert (sample.prompt, sample.response) == ("p\n\nNo.\n\np", "r")
    # With the last turn not learnt, the one before it is the answer.
    sample = parsed({"messages": [*CHAT, CHAT[0], CHAT[1] | {"content": "No.", key: against}]})
    assert (sample.prompt, sample.response) == ("p", "r")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "r", "train": False}],
        [{"type": "text", "text": "r", "weight": 0}],
    ],
)
def test_a_mark_on_all_parts_is_one_of_the_turn(content):
    sample = parsed(chat(*CHAT, CHAT[0], {"role": "assistant", "content": content}, *CHAT))
    assert [message.get("weight") for message in sample.messages] == [None, None, None, 0, None, None]


def test_marks_named_as_metadata_are_not_read():
    sample = parsed(chat(CHAT[0], CHAT[1] | {"loss": 0.7}), {"metadata": ["loss"]})
    assert sample.messages == CHAT


REFUSED = [
    ("turn_mark", chat(CHAT[0], CHAT[1] | {"weight": 0.5}), "messages[1].weight '0.5'"),
    ("turn_mark", chat(CHAT[0] | {"train": True}, CHAT[1]), "messages[0].train on a turn of 'user'"),
    ("turn_mark", chat(CHAT[0], CHAT[1] | {"weight": 1, "train": False}), "for and against"),
    ("turn_mark", chat(CHAT[0], CHAT[1] | {"train_detail": [{"begin_offset": 0}]}), "messages[1].train_detail"),
    (
        "turn_mark",
        chat(CHAT[0], {"role": "assistant", "content": [{"text": "a", "train": False}, {"text": "b", "train": True}]}),
        "for and against",
    ),
    (
        "turn_mark",
        chat(CHAT[0], {"role": "assistant", "content": [{"text": "a", "train": False}, {"text": "b"}]}),
        "for",
    ),
    ("invalid_text", chat(CHAT[0], CHAT[1] | {"reasoning_content": "\ud800"}), "ud800"),
    ("invalid_text", chat(CHAT[0], {"role": "assistant", "tool_calls": [{"name": "\ud800"}]}), "ud800"),
    ("invalid_text", {"messages": CHAT, "tools": [{"name": "\ud800"}]}, "ud800"),
    ("turn_mark", {"prompt": "p", "completion": "r", "label": False}, "not wanted"),
    ("turn_mark", {"prompt": "p", "completion": "r", "label": "False"}, "not wanted"),
    ("turn_mark", {"conversations": SHAREGPT, "kto_tag": False}, "kto_tag false"),
    ("unreadable_part", chat(CHAT[0] | {"images": ["x.png"]}, CHAT[1]), "messages[0].images: other tools show them"),
    ("wrong_type", {"conversations": ["p", "r"]}, "a list of texts, which do not say who speaks"),
    ("wrong_type", {"messages": CHAT, "tools": ["tide"]}, "tools: text that is no JSON"),
    ("wrong_type", {"instruction": "p", "input": "", "output": None}, "output that is null"),
    ("wrong_type", {"prompt": "p", "completion": None}, "completion that is null"),
    ("wrong_type", {"text": ["p"]}, "text that is a list"),
    ("missing_field", {"chosen": "Human: p", "rejected": "Human: q"}, "(try data.fields.text=chosen)"),
    ("missing_field", {"prompt": "p", "chosen": CHAT, "rejected": CHAT}, "(try data.fields.messages=chosen)"),
    ("missing_field", {"dialogue": "p", "summary": "r"}, "data.fields.prompt=dialogue data.fields.response=summary"),
    ("nothing_to_learn", chat(CHAT[0], CHAT[1] | {"weight": 0}), "every turn"),
    ("unreadable_part", chat({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, CHAT[1]), "image"),
    ("unreadable_part", {"messages": CHAT, "images": ["x.png"]}, "images: other tools show them"),
    ("unreadable_part", PAIR | {"chat_template_kwargs": {"enable_thinking": False}}, "data.template_args"),
    (
        "ambiguous_form",
        PAIR | {"messages": [CHAT[0], CHAT[1] | {"content": "other"}]},
        "messages (messages), and other texts in prompt and response (prompt_response)",
    ),
    ("ambiguous_form", PAIR | {"conversations": [SHAREGPT[0], {"from": "gpt", "value": "other"}]}, "conversations"),
    ("ambiguous_form", chat(CHAT[0], CHAT[1] | {"reasoning": "a", "thinking": "b"}), "two different thoughts"),
    (
        "wrong_type",
        chat(CHAT[0], {"role": "assistant", "tool_calls": [{"name": "x", "arguments": '{"a": 1, "a": 2}'}]}),
        "a tool call with an object with the same key twice",
    ),
    ("ambiguous_form", {"instruction": "p", "output": "r", "text": "Another document."}, "other texts in text"),
    ("ambiguous_form", {"messages": [{"role": "system", "content": "a"}, *CHAT], "system": "b"}, "system"),
    ("wrong_type", {"messages": CHAT, "tools": "a hammer"}, "tools"),
    ("wrong_type", {"messages": CHAT, "tools": [{"description": "no name"}]}, "without a name"),
    (
        "wrong_type",
        chat(CHAT[0], {"role": "assistant", "tool_calls": [{"name": "x", "arguments": "{'a': 1}"}]}),
        "tool",
    ),
    ("wrong_type", chat(CHAT[0], {"role": "function_call", "content": "call it"}), "messages[1]: a tool call"),
    ("wrong_type", {"messages": "[{'role': 'user'}]"}, "messages that is text, and no JSON"),
    ("wrong_type", {"instruction": "p", "input": 3, "output": "r"}, "input that is a number"),
    ("missing_field", chat(CHAT[0], {"role": "assistant"}), "no messages[1].content"),
    ("missing_field", {"question": "p", "answer": "r"}, "data.fields.prompt=question data.fields.response=answer"),
    ("missing_field", {"Question": "p", "Answer": "r"}, "data.fields.prompt=Question data.fields.response=Answer"),
    ("missing_field", {"inputs": "p", "targets": "r"}, "data.fields.prompt=inputs data.fields.response=targets"),
    ("missing_field", {"prompt": "p", "chosen": "a", "rejected": "b"}, "data.fields.response=chosen"),
    ("missing_field", {"chosen_messages": CHAT}, "data.fields.messages=chosen_messages"),
    ("missing_field", {"data": [PAIR]}, "keys 'data' (try jq -c '.data[]' FILE > NEW.jsonl)"),
    ("missing_field", {"dialog": CHAT, "n": 1}, "data.fields.messages=dialog"),
    ("turn_order", {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1]}, "data.fields.prompt=conversations"),
    ("turn_order", {"messages": CHAT[1:]}, "roles 'assistant'"),
    ("turn_order", {"messages": CHAT[:1]}, "roles 'user'"),
    ("empty_response", {"text": " "}, "' '"),
    ("empty_prompt", {"instruction": "", "input": "", "output": "r"}, "instruction ''"),
]


@pytest.mark.parametrize(("rule", "row", "got"), REFUSED)
def test_what_cannot_be_read_gets_a_line_that_names_it(rule, row, got):
    (defect,) = parsed(row)
    assert defect.rule == rule
    assert got in defect.got


@pytest.mark.parametrize(
    "row",
    [
        {"segments": [{"label": True, "text": "a"}, {"label": False, "text": "b"}]},
        {"turns": [{"speaker": "u", "utterance": "a"}]},
        {"input": {"messages": CHAT}, "preferred_output": CHAT[1:], "non_preferred_output": CHAT[1:]},
    ],
)
def test_no_remedy_is_named_that_would_not_work(row):
    (defect,) = parsed(row)
    assert "(try" not in defect.got


@pytest.mark.parametrize("key", ["input", "system", "tools", "history", "id", "messages"])
def test_nan_is_a_missing_value(key):
    row = {"instruction": "p", "output": "r"}
    line = json.dumps(row | {key: float("nan")}).encode()
    assert parse_sample("data.jsonl", RawLine(3, line), FieldNames()).messages == parsed(row).messages
    message = CHAT[1] | {"tool_calls": float("nan"), "weight": float("nan")}
    assert parsed(chat(CHAT[0], message)).messages == CHAT


def test_answers_in_the_prompt_are_context():
    sample = parsed({"prompt": [*CHAT, CHAT[0]], "completion": CHAT[1:]})
    assert [message.get("weight") for message in sample.messages] == [None, 0, None, None]


def test_the_parts_of_a_fault_can_be_named_as_metadata():
    row = PAIR | {"images": ["x.png"], "tools": "a hammer", "conversations": [SHAREGPT[0]], "system": {"os": "linux"}}
    sample = parsed(row, {"metadata": ["images", "tools", "conversations"]})
    assert turns(sample) == TURNS
    assert sample.meta == {key: value for key, value in row.items() if key not in PAIR}


@pytest.mark.parametrize(
    ("form", "expected"),
    [("alpaca", [("user", "p\ni"), ("assistant", "r")]), ("text", "d"), ("messages", None)],
)
def test_a_form_can_be_forced(form, expected):
    found = parsed({"instruction": "p", "input": "i", "output": "r", "text": "d"}, form=form)
    if expected is None:
        assert [(defect.rule, defect.got[:22]) for defect in found] == [("missing_field", "no messages or convers")]
    else:
        assert (found.text or turns(found), found.form) == (expected, form)


def test_a_plain_text_has_no_messages():
    sample = parsed({"text": "A document.", "url": "x"})
    assert (sample.messages, sample.text, sample.form) == ([], "A document.", "text")
    assert (sample.prompt, sample.response, sample.meta) == ("", "A document.", {"url": "x"})


@pytest.mark.parametrize(
    ("given", "name"), [(7, "7"), (10**30, str(10**30)), (1.5, "1.5"), ("a", "a"), (None, "line-3")]
)
def test_ids_of_any_kind_name_the_sample(given, name):
    assert parsed(PAIR | {"id": given}).id == name


def test_an_id_that_the_user_mapped_must_be_there():
    (defect,) = parsed(PAIR, {"id": "key"})
    assert (defect.rule, defect.got) == ("missing_field", "no key")


def test_nothing_is_unread_in_silence():
    row = PAIR | {
        "id": "a",
        "group": "g",
        "source": "s",
        "area": "x",
        "input": "i",
        "empty": None,
        "rate": float("nan"),
    }
    assert sorted(unread_keys(parsed(row))) == ["area", "input"]
    message = CHAT[1] | {"mood": "t", "name": "n", "annotations": []}
    assert list(unread_keys(parsed(chat(CHAT[0], message)))) == ["messages[].mood"]


def read_file(folder, content, name, fields=None):
    (folder / name).write_bytes(content)
    path, names = str(folder / name), FieldNames(**(fields or {}))
    found = []
    for raw in read_raw(path, names, "train"):
        one = parse_sample(path, raw, names)
        found += one if isinstance(one, list) else [one]
    return found


ROWS = [PAIR, {"prompt": 'a "[{" \\', "response": "}, ü\n\u2028"}]
LINES = b"\n".join(json.dumps(row).encode() for row in ROWS)
ARRAY = json.dumps(ROWS).encode()
PRETTY = json.dumps(ROWS, indent=2, ensure_ascii=False).encode()
OBJECTS = b"\n".join(json.dumps(row, indent=2).encode() for row in ROWS)
CSV = b'prompt,response\np,r\n"a ""[{"" \\","}, \xc3\xbc\n\xe2\x80\xa8"\n'
MARK = b"\xef\xbb\xbf"
FILES = [
    ("data.jsonl", LINES),
    ("data.json", LINES),
    ("data.json", ARRAY),
    ("data.json", ARRAY + b"\n\n"),
    ("data.json", b"\n" + PRETTY),
    ("data.json.gz", gzip.compress(PRETTY, mtime=0)),
    ("data.jsonl", ARRAY),
    ("data.jsonl", PRETTY),
    ("data.jsonl", OBJECTS),
    ("data.json", OBJECTS.replace(b"}\n{", b"},\n{")),
    ("data.jsonl", LINES.replace(b"\n", b"\r\n")),
    ("data.csv", CSV),
    ("data.tsv", CSV.replace(b",", b"\t", 2).replace(b'"\\","', b'"').replace(b'\\","', b'\\"\t"')),
]


@pytest.mark.parametrize("mark", [b"", MARK])
@pytest.mark.parametrize(("name", "content"), FILES)
def test_a_file_of_any_form_holds_the_same_samples(tmp_path, name, content, mark):
    if mark and name.endswith(".gz"):
        content, mark = gzip.compress(mark + gzip.decompress(content), mtime=0), mark
    else:
        content = mark + content
    found = read_file(tmp_path, content, name)
    if mark:
        assert (found[0].line, found[0].rule) == (1, "byte_order_mark")
    samples = [one for one in found if isinstance(one, Sample)]
    assert [turns(sample) for sample in samples] == [
        [("user", row["prompt"]), ("assistant", row["response"])] for row in ROWS
    ]
    first = 2 if name.endswith("sv") else 1
    assert [sample.line for sample in samples] == [first, first + 1]
    assert samples[0].id == f"{'line' if 'jsonl' in name else 'row'}-{first}"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("data.json", b'[{"prompt": "p", "response": "r"}, {"prompt": "p"', ["sample", "broken_json"]),
        ("data.json", b'[{"prompt": "p", "response": "r"}, 3, [1, 2]]', ["sample", "wrong_type", "wrong_type"]),
        ("data.json", b"[]", ["wrong_type"]),
        ("data.jsonl", LINES.replace(b"\n", b""), ["broken_json"]),
        (
            "data.csv",
            b'prompt,response\np,r,x\np\np,r\n"p" x,r\np,\xff\n',
            ["broken_row"] * 2 + ["sample", "broken_row", "not_utf8"],
        ),
        ("data.csv", b"id,prompt,response\n,p,r\n", ["empty_id"]),
        ("data.csv", b"\n\nprompt,response\np,r\n", ["sample"]),
        ("data.csv", b"prompt,completion,label\np,r,False\n", ["turn_mark"]),
        ("data.jsonl", b'{"prompt": "p", "response": "r", "n": ' + b"9" * 5000 + b"}", ["broken_json"]),
    ],
)
def test_faults_of_files_are_those_of_their_rows(tmp_path, name, content, expected):
    found = read_file(tmp_path, content, name)
    assert [getattr(one, "rule", "sample") for one in found] == expected


def test_messages_of_tables(tmp_path):
    maps = pa.array([[list(message.items()) for message in CHAT]], pa.list_(pa.map_(pa.string(), pa.string())))
    called = [CHAT[0], {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    structs = pa.array([CHAT, called])
    for column, expected in ((maps, [CHAT]), (structs, [CHAT, [CHAT[0], {**called[1], "content": ""}]])):
        pq.write_table(pa.table({"messages": column, "n": [1] * len(column)}), tmp_path / "data.parquet")
        found = read_file(tmp_path, (tmp_path / "data.parquet").read_bytes(), "data.parquet")
        assert [sample.messages for sample in found] == expected
        assert [sample.id for sample in found] == [f"row-{i + 1}" for i in range(len(expected))]
    text = json.dumps(CHAT).replace('"', '""')
    (sample,) = read_file(tmp_path, f'messages\n"{text}"\n'.encode(), "data.csv")
    assert sample.messages == CHAT


def test_a_large_array_is_refused_with_the_command_that_converts_it(tmp_path, monkeypatch):
    monkeypatch.setattr("trainables.data.json_documents.MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(UserError, match=r"got a larger one; convert it: jq -c '\.\[\]' .*data\.json > NEW\.jsonl"):
        read_file(tmp_path, ARRAY + b" " * 2**21, "data.json")


any_content = st.sampled_from(
    ["a", "", None, 1, BARE_CALL, ["k"], [{"type": "tool_use", "name": "n"}], [{"type": "tool_result", "content": "z"}]]
)
any_turn = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "gpt", "tool", "function_call", "system", "judge"]), "content": any_content},
    optional={
        "weight": st.sampled_from([0, 1, None, 0.5]),
        "tool_calls": st.sampled_from([None, [], [{"name": "x"}], '[{"name": "x", "arguments": "{}"}]', "x"]),
        "reasoning_content": st.sampled_from(["t", ["t"], [{"text": "u", "train": False}], "\ud800"]),
    },
)
any_row = st.fixed_dictionaries(
    {"messages": st.lists(any_turn, max_size=4).map(lambda some: [CHAT[0], *some, CHAT[1]])},
    optional={"system": any_content, "tools": any_content, "history": any_content, "prompt": any_content},
)


@settings(deadline=None, max_examples=200)
@given(any_row)
def test_every_sample_is_as_the_chat_template_needs_it(row):
    sample = parsed(row)
    if not isinstance(sample, Sample):
        return
    assert all(isinstance(message["content"], str) for message in sample.messages)
    calls = [call for message in sample.messages for call in message.get("tool_calls", [])]
    assert all(isinstance(call["function"]["arguments"], dict) for call in calls)
    assert {message.get("weight", 0) for message in sample.messages} == {0}
    assert sample.messages[sample.answer_index]["role"] == "assistant"
    json.dumps([sample.messages, sample.tools], ensure_ascii=False).encode()
