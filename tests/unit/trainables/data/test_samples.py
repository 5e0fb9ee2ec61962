import gzip
import json
import os
import sys
import tracemalloc
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainables.config.data_sections import FieldNames
from trainables.config.defect_rules import RULES
from trainables.data import json_lines
from trainables.data.defects import location
from trainables.data.samples import Sample, context_group, parse_sample, split_prompt
from trainables.data.sources import read_raw
from trainables.errors import UserError

FIELDS = FieldNames()
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
GOOD = b'{"id": "a", "prompt": "p", "response": "r", "area": "x", "n": [1, null]}'
CHAT = {
    "id": "c",
    "messages": [
        {"role": "system", "content": ""},
        {"role": "user", "content": "p1"},
        {"role": "assistant", "content": "r1"},
        {"role": "user", "content": "p2"},
        {"role": "assistant", "content": "r2"},
    ],
}
CHAT_LINE = b'{"id": "a", "messages": %s}'
BLANK = {"id": "a", "messages": [{"role": role, "content": " "} for role in ("user", "assistant")]}


def write(folder, content, name="data.jsonl"):
    (folder / name).write_bytes(content)
    return str(folder / name)


def read(path, fields=FIELDS, split="train"):
    """The samples and defects of a file, in order."""
    found = []
    for raw in read_raw(path, fields, split):
        parsed = parse_sample(path, raw, fields)
        found += parsed if isinstance(parsed, list) else [parsed]
    return found


def test_a_prompt_and_response_become_two_messages_and_the_rest_is_metadata(tmp_path):
    (sample,) = read(write(tmp_path, GOOD))
    assert sample == Sample(
        id="a",
        messages=[{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}],
        meta={"area": "x", "n": [1, None]},
        line=1,
        file=str(tmp_path / "data.jsonl"),
    )
    assert sample.where == f"{tmp_path}/data.jsonl line 1"
    assert (sample.prompt, sample.response) == ("p", "r")


def test_messages_are_kept_and_win_over_a_prompt(tmp_path):
    both = CHAT | {"prompt": "p1", "response": None}
    (sample,) = read(write(tmp_path, json.dumps(both).encode()))
    assert sample.messages == CHAT["messages"]
    assert (sample.prompt, sample.response) == ("\n\np1\n\nr1\n\np2", "r2")
    assert sample.meta == {"prompt": "p1", "response": None}


def test_field_names_can_be_mapped(tmp_path):
    path = write(tmp_path, b'{"key": "a", "q": "p", "a": "r", "id": 7}')
    (sample,) = read(path, FieldNames(id="key", prompt="q", response="a"))
    assert sample.form == "prompt_response"
    assert (sample.id, sample.prompt, sample.response, sample.meta) == ("a", "p", "r", {"id": 7})


def test_lines_are_counted_with_blank_ones_and_any_line_end(tmp_path):
    second = GOOD.replace(b'"a"', b'"b"')
    samples = read(write(tmp_path, GOOD + b"\r\n \t\n\n" + second))
    assert [(sample.id, sample.line) for sample in samples] == [("a", 1), ("b", 4)]


BAD_LINES = [
    ("broken_json", [b"{", b"{'id': 'a'}", b"\x00" * 100, GOOD + b"\x00", GOOD + GOOD, b'{"id": "b", ' + GOOD[1:]]),
    ("broken_json", [GOOD[:-1] + b', "x": ' + b"9" * 5000 + b"}"]),
    ("broken_json", [b'{"x": ' + b"[" * 70 + b"]" * 70 + b"}", b"[" * 1_000_000, b'{"a":' * 1_000_000]),
    ("not_utf8", [b"\xff" + GOOD, GOOD[:-2] + b"\xc3"]),
    ("byte_order_mark", [b"\xef\xbb\xbf" + GOOD]),
    ("wrong_type", [b"[1, 2]", b"null", b'"text"']),
    ("wrong_type", [b'{"id": "a", "messages": "hi"}', b'{"id": "a", "messages": ["hi"]}']),
    ("wrong_type wrong_type wrong_type", [b'{"id": true, "prompt": 1, "response": ["r"]}']),
    (
        "wrong_type",
        [b'{"prompt": "p", "response": {"answer": "r"}}', b'{"prompt": [{"role": "user"}], "response": "r"}'],
    ),
    ("wrong_type", [b'{"id": true, "prompt": "p", "response": "r"}', b'{"id": "a", "prompt": NaN, "response": "r"}']),
    ("wrong_type wrong_type", [CHAT_LINE % b'[{"role": [], "content": 1}, {"role": "user", "content": 1}]']),
    ("missing_field", [b"{}", b'{"id": "a", "prompt": "p"}']),
    ("wrong_type", [b'{"id": "a", "prompt": "p", "response": null}']),
    ("missing_field", [CHAT_LINE % b'[{"role": "user", "content": "p"}, {"role": "assistant"}]']),
    ("empty_id empty_prompt empty_response", [b'{"id": "", "prompt": " \\n", "response": ""}']),
    ("empty_prompt empty_response", [json.dumps(BLANK).encode()]),
    ("invalid_text", [b'{"id": "a", "prompt": "\\ud800", "response": "r"}', GOOD[:-1] + b', "group": "\\udfff"}']),
    ("empty_group", [GOOD[:-1] + b', "group": ""}']),
    ("turn_order", [CHAT_LINE % b"[]", CHAT_LINE % b'[{"role": "assistant", "content": "r"}]']),
    ("turn_order", [CHAT_LINE % b'[{"role": "user", "content": "p"}]']),
    ("not_utf8", [b'{"id": "a", "prompt": "p", "response": "\xff"}']),
]


@pytest.mark.parametrize(("rules", "line"), [(rules.split(), line) for rules, lines in BAD_LINES for line in lines])
def test_a_bad_line_is_a_defect_and_its_neighbours_are_read(tmp_path, rules, line):
    content = line + b"\n" + GOOD.replace(b'"a"', b'"after"', 1)
    found = read(write(tmp_path, content))
    assert [(defect.line, defect.rule) for defect in found if not isinstance(defect, Sample)] == [(1, r) for r in rules]
    assert found[-1].id == "after"
    assert set(rules) <= set(RULES)


@pytest.mark.parametrize(("length", "sound"), [(200, True), (201, False), (5000, False)])
def test_a_line_over_the_cap_is_passed_over(tmp_path, monkeypatch, length, sound):
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 200)
    monkeypatch.setattr(json_lines, "SKIP_BYTES", 64)
    long = GOOD + b" " * (length - len(GOOD))
    found = read(write(tmp_path, b"\n".join([long, GOOD.replace(b'"a"', b'"b"', 1), long])))
    rule = None if sound else "line_too_long"
    assert [(one.line, getattr(one, "rule", None)) for one in found] == [(1, rule), (2, None), (3, rule)]
    assert [one.id for one in found if isinstance(one, Sample)] == (["a", "b", "a"] if sound else ["b"])


def test_memory_stays_bounded_on_a_gzip_bomb_of_one_line(tmp_path):
    path = str(tmp_path / "bomb.jsonl.gz")
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(128):
            stream.write(b"a" * 2**20)
        stream.write(b"\n" + GOOD)
    tracemalloc.start()
    try:
        found = read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found[0].rule, found[1].id) == ("line_too_long", "a")
    assert peak < 3 * json_lines.MAX_LINE_BYTES


def parquet(folder, table):
    pq.write_table(table, folder / "data.parquet")
    return str(folder / "data.parquet")


def test_the_formats_give_the_same_samples(tmp_path):
    rows = [json.loads(GOOD), json.loads(GOOD.replace(b'"a"', b'"b"', 1))]
    lines = b"\n".join(json.dumps(row).encode() for row in rows)
    paths = [
        write(tmp_path, lines),
        write(tmp_path, gzip.compress(lines, mtime=0), "data.jsonl.gz"),
        parquet(tmp_path, pa.Table.from_pylist(rows)),
    ]
    plain, zipped, table = (
        [(sample.id, sample.messages, sample.meta, sample.line) for sample in read(path)] for path in paths
    )
    assert plain == zipped == table


def test_parquet_messages_and_row_numbers(tmp_path):
    rows = [CHAT, CHAT | {"id": "d", "messages": CHAT["messages"][:2]}]
    path = parquet(tmp_path, pa.Table.from_pylist(rows))
    found = read(path)
    assert found[0].messages == CHAT["messages"]
    assert (found[1].rule, location(path, found[1].line)) == ("turn_order", f"{path} row 2")


def test_parquet_values_that_cannot_be_read_are_defects_of_their_row(tmp_path):
    bad = pa.array([b"p", b"\xff", b"q"]).cast(pa.binary()).view(pa.string())
    dates = pa.array([0, 0, 2**31 - 1], pa.int32()).view(pa.date32())
    table = pa.table({"id": ["a", "b", "c"], "prompt": bad, "response": ["r"] * 3, "day": dates})
    found = read(parquet(tmp_path, table))
    assert [getattr(one, "rule", None) for one in found] == [None, "not_utf8", "wrong_type"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.jsonl.gz", gzip.compress(GOOD * 100, mtime=0)[:-20], "data file must be readable to its end"),
        ("data.jsonl.gz", gzip.compress(GOOD, mtime=0) + b"rest", "data file must be readable to its end"),
        ("data.jsonl.gz", GOOD, "data file must be readable to its end, got Not a gzipped file"),
        ("data.jsonl", gzip.compress(GOOD, mtime=0), "must be UTF-8 text, as its name says, got gzip data"),
        ("data.jsonl", GOOD.decode().encode("utf-16"), "got UTF-16"),
        ("data.jsonl", b"PAR1" + bytes(10), "got Parquet data"),
        ("data.csv", b"PK\x03\x04" + bytes(10), "got a zip archive or an Excel file"),
        ("data.jsonl", b"<!DOCTYPE html>\n<html>", "got a page of HTML; convert, rename or fetch it again"),
        *((f"data.{end}", LFS, "got a pointer of Git LFS; ") for end in ("jsonl", "json.gz", "csv", "parquet")),
        ("data.tsv", b"prompt,response\n", "must be separated by tabs, got 'prompt,response'; name it .csv"),
        ("data.csv", b"prompt, response\n", "got 'prompt', ' response'; take the spaces around names and cells out"),
        ("data.csv", b"prompt,response,,\n", "give each column a name of its own, also ''"),
        ("data.parquet", b"", "must be a readable Parquet file"),
        ("data.parquet", GOOD, "must be a readable Parquet file"),
        ("data.jsonl", GOOD + b"\r" + GOOD + b"\r", "lines must end with a line feed, got carriage returns alone"),
        ("data.json", GOOD.decode().encode("utf-16"), "got UTF-16"),
        ("data.csv", b"id,prompt\n1,p\n", "must have the columns of a known form"),
        ("data.csv", b"prompt;response\np;r\n", "must be separated by commas, got 'prompt;response'"),
        ("data.csv", b"prompt\tresponse\np\tr\n", "must be separated by commas, got 'prompt\\tresponse'; name it .tsv"),
        ("data.csv", b"prompt,response,prompt\n", "each once, got prompt, response, prompt"),
        ("data.csv", b'"', "must begin with a row of column names, got unexpected end of data"),
        (
            "data.txt",
            b"a text",
            "data files must end in .jsonl, .jsonl.gz, .json, .json.gz, .ndjson, .csv, .tsv, .parquet",
        ),
        ("data", GOOD, "data files must end in"),
    ],
)
def test_a_bad_file_is_one_user_error(tmp_path, name, content, message):
    with pytest.raises(UserError) as caught:
        read(write(tmp_path, content, name))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize(
    ("columns", "fields", "message"),
    [
        ({"id": ["a"], "prompt": ["p"]}, {}, "must have the columns of a known form (prompt and response, messages"),
        (
            {"question": ["p"], "answer": ["r"]},
            {},
            "got question, answer; map the names, such as data.fields.prompt=question data.fields.response=answer",
        ),
        ({"prompt": ["p"], "response": ["r"]}, {"id": "key"}, "must have the column key, got prompt, response;"),
    ],
)
def test_parquet_without_the_columns_names_those_it_has(tmp_path, columns, fields, message):
    path = parquet(tmp_path, pa.table(columns))
    with pytest.raises(UserError) as caught:
        read(path, FieldNames(**fields))
    assert message in str(caught.value)


def test_paths_that_are_no_readable_file(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "unreadable.jsonl").symlink_to("/proc/self/mem")
    monkeypatch.chdir(tmp_path)
    for path, got in {
        "fifo.jsonl": "must be a data file, got a pipe or device",
        "folder.jsonl": "must be a data file, got a folder",
        ".": "must be a data file, got a folder",
        "missing.jsonl": "data file must exist and be readable, got No such file",
        "missing/dir/file": "data file must exist and be readable, got No such file",
        "missing.csv": "data file must exist and be readable, got No such file",
        "a.jsonl,b.jsonl": "got No such file or directory; name one file; several are joined by: cat FILE FILE > ALL",
        "parts/*.jsonl": "name one file; several",
        "https://example.com/a.jsonl": "download the file, and name it",
        "hf://datasets/org/set": "write the data set's id: org/set",
        "file:///tmp/no-such.jsonl": "write the path alone: /tmp/no-such.jsonl",
        "nul\0.jsonl": "got embedded null byte",
        "x" * 5000: "got File name too long",
    }.items():
        with pytest.raises(UserError) as caught:
            read(path)
        assert got in str(caught.value)
    if sys.platform == "linux":
        with pytest.raises(UserError, match="must be readable"):
            read("unreadable.jsonl")


def hub(monkeypatch, load_dataset):
    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    module.exceptions = types.SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


class Rows(list):
    column_names = ("id", "prompt", "response", "area")


def test_hub_data_is_read_by_split(monkeypatch):
    hub(monkeypatch, lambda path, split: Rows([json.loads(GOOD) | {"area": f"{path} {split}"}]))
    (sample,) = read("owner/name", split="test")
    assert (sample.id, sample.line, sample.meta["area"]) == ("a", 1, "owner/name test")
    monkeypatch.setattr(Rows, "column_names", ("label",))
    with pytest.raises(UserError, match=r"must have the columns .* got label"):
        read("owner/name")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install llm-sweeps\[hub\]"):
        read("owner/name")


@pytest.mark.parametrize("kind", [FileNotFoundError, ValueError, ConnectionError, None])
def test_hub_errors_are_user_errors(monkeypatch, kind):
    def fails(path, split):
        raise (kind or module.exceptions.DatasetsError)(f"no {path} {split}")

    module = hub(monkeypatch, fails)
    with pytest.raises(UserError, match="a data set of the Hugging Face hub, got split test: no owner/name test; "):
        read("owner/name", split="test")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "prompt", "response", "messages", "role", "content"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
lines = st.one_of(st.binary(max_size=40), json_values.map(lambda value: json.dumps(value).encode()), st.just(GOOD))


@settings(deadline=None, max_examples=200)
@given(
    content=st.lists(lines, max_size=6).map(b"\n".join),
    name=st.sampled_from(["x.jsonl", "x.jsonl.gz", "x.parquet", "x.csv"]),
)
@example(content=b"\xef\xbb\xbf", name="x.jsonl")
@example(content=b"\xef\xbb\xbf\n" + GOOD, name="x.jsonl")
def test_no_bytes_give_anything_but_samples_or_a_user_error(tmp_path_factory, content, name):
    path = write(tmp_path_factory.getbasetemp(), content, name)
    try:
        samples = [one for one in read(path) if isinstance(one, Sample)]
    except UserError as error:
        str(error).encode()
    else:
        assert all(sample.id and sample.prompt.strip() and sample.response.strip() for sample in samples)
        json.dumps([sample.meta for sample in samples])


@settings(deadline=None, max_examples=200)
@given(edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.parametrize("kind", ["parquet", "gzip"])
def test_damaged_files_give_nothing_but_samples_or_a_user_error(tmp_path_factory, kind, edits):
    folder = tmp_path_factory.getbasetemp()
    if kind == "parquet":
        path = parquet(folder, pa.Table.from_pylist([json.loads(GOOD), CHAT]))
    else:
        path = write(folder, gzip.compress(GOOD + b"\n" + json.dumps(CHAT).encode()), "data.jsonl.gz")
    content = bytearray(Path(path).read_bytes())
    for place, byte in edits:
        content[int(place * len(content))] = byte
    Path(path).write_bytes(content)
    try:
        read(path)
    except UserError as error:
        str(error).encode()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Table\n\nQuestion: a?", "Table\n\nQuestion: b?", True),
        ("Table  1\n\nQuestion: a?", "Table 1 \n\n\nQuestion: b?", True),
        ("Table 1\n\nQuestion: a?", "Table 2\n\nQuestion: a?", False),
        ("Question: x? A: 1\nQuestion: a?", "Question: x? A: 1\nQuestion: b?", True),
        ("Question: a?", "Question: b?", False),
        ("Text\n\nmore\n\nWho?", "Text\n\nmore\n \nWhere?", True),
        ("Text\n\nmore\n\nWho?", "Text\n\nless\n\nWho?", False),
        ("Who?", "Where?", False),
        ("Who?\n\n", "Where?\n\n", False),
    ],
)
def test_prompts_with_the_same_context_share_a_group(one, other, same):
    assert (context_group(one) == context_group(other)) == same


@pytest.mark.parametrize(
    ("prompt", "context", "question"),
    [
        ("a table\n\nQuestion: how much?", "a table", "how much?"),
        ("a\n\nb\n \nhow much?", "a\n\nb", "how much?"),
        ("how much?", "", "how much?"),
        ("Question: how much?", "", "how much?"),
        ("Question: a? Question: b?", "Question: a?", "b?"),
        ("\n\n how much?\n\n", "", "how much?"),
    ],
)
def test_split_prompt_agrees_with_the_groups(prompt, context, question):
    assert split_prompt(prompt) == (context, question)
    if context:
        assert context_group(f"{context}\n\nQuestion: another?") == context_group(prompt)
