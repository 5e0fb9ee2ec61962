import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.trainables.data.audit.helpers import FIELDS, TABLE, as_bytes, audited, sample, sources, written
from trainables.data import json_lines
from trainables.data.audit import dataset_scan
from trainables.data.audit.audit import AuditSource, audit, kept_samples
from trainables.errors import UserError, UserErrors

SOUND = [sample(f"s{i}", f"{TABLE}Question: What is said about the entry numbered {i}?", f"{i}") for i in range(30)]
FAULTY = [
    b"{",
    sample("f1", response=""),
    sample("f2", "It is 5 â€” or what?"),
    SOUND[3],
    SOUND[4] | {"id": "f3"},
    sample("f4", SOUND[5]["prompt"].upper(), "5"),
    sample("s6", "Is this another question altogether?"),
    sample("f5", "A bell \x07 rings here, why?"),
    sample("f6", SOUND[7]["prompt"], "another"),
]
ITEMS = [sample(f"h{i}", f"{TABLE}Question: Who wrote down the amount in row {i}?", f"{i}") for i in range(5)]
ACTIONS = {"broken_json": "drop", "empty_response": "drop", "repeated_id": "drop", "leakage": "drop"}


def test_each_fault_is_found_and_what_is_kept_is_read(tmp_path):
    train, areas = sources(tmp_path, [*SOUND, *FAULTY, ITEMS[2]], {"area": ITEMS})
    done = audit(train, areas, FIELDS, ACTIONS | {"mojibake": "keep"})
    assert {rule: found.lines.tolist() for rule, found in done.train.hits.items()} == {
        "broken_json": [31],
        "empty_response": [32],
        "mojibake": [33],
        "exact_duplicate": [34, 35],
        "near_duplicate": [36],
        "repeated_id": [37],
        "control_characters": [38],
        "conflicting_responses": [39],
        "leakage": [40],
    }
    assert (done.train.lines, done.train.samples_read, done.train.samples_kept) == (40, 38, 33)
    assert done.failures() == []
    kept = kept_samples(train, FIELDS, done.train)
    assert [one.line for one in kept] == [*range(1, 31), 33, 38, 39]
    assert [one.id for one in kept[-3:]] == ["f2", "f5", "f6"]


@pytest.mark.parametrize("processes", [1, 2])
def test_chunks_and_processes_change_nothing(tmp_path, monkeypatch, processes):
    train, areas = sources(tmp_path, [*SOUND, *FAULTY, *ITEMS], {"area": ITEMS, "other": [*SOUND[:2], ITEMS[0]]})
    whole = audit(train, areas, FIELDS, ACTIONS, processes=1).to_json()
    monkeypatch.setattr(dataset_scan, "CHUNK_LINES", 7)
    monkeypatch.setattr(dataset_scan, "SHORT_FILE_CHUNKS", 1)
    started = []
    scan = dataset_scan._scan_in_workers
    monkeypatch.setattr(dataset_scan, "_scan_in_workers", lambda *given: started.append(given) or scan(*given))
    parts = audit(train, areas, FIELDS, ACTIONS, processes=processes).to_json()
    assert json.dumps(parts) == json.dumps(whole)
    assert len(started) == (processes == 2)  # for the training set alone: the areas are short


def exit_with_7(_):
    os._exit(7)


def test_a_worker_that_dies_is_a_user_error(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_scan, "SHORT_FILE_CHUNKS", 0)
    monkeypatch.setattr(dataset_scan, "_scan_chunk", exit_with_7)
    train, _ = sources(tmp_path, SOUND, {})
    with pytest.raises(UserErrors, match="audit: its processes must run to their end, got exit 7; "):
        audit(train, {}, FIELDS, {})


def test_workers_do_not_import_the_callers_main_module(tmp_path):
    train = AuditSource("data.train", written(tmp_path, SOUND))
    script = tmp_path / "caller.py"
    script.write_text(
        "print('main is imported', flush=True)\n"
        "from trainables.data.audit import audit, dataset_scan\n"
        "from trainables.config.data_sections import FieldNames\n"
        "dataset_scan.SHORT_FILE_CHUNKS = 0\n"
        f"print(audit.audit(audit.{train}, {{}}, FieldNames(), {{}}).train.samples_kept)"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == f"main is imported\n{len(SOUND)}\n"


def test_a_limit_takes_the_first_samples_and_reads_no_further(tmp_path):
    lines = [b"{", *SOUND[:3], sample("f", response=""), *SOUND[3:6], SOUND[0], b"no more of it is read"]
    train = AuditSource("data.train", written(tmp_path, lines), limit=6)
    done = audit(train, {}, FIELDS, ACTIONS)
    assert done.train.samples.tolist() == [2, 3, 4, 6, 7, 8]
    assert (done.train.lines, done.failures()) == (8, [])
    assert [one.id for one in kept_samples(train, FIELDS, done.train)] == [f"s{i}" for i in range(6)]
    beyond = AuditSource("data.train", written(tmp_path, SOUND[:3]), limit=6)
    assert audit(beyond, {}, FIELDS, {}).train.samples_kept == 3


def test_files_that_cannot_be_read_are_reported_together(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    paths = {"gone": "gone.jsonl", "folder": "", "pipe": "pipe.jsonl", "utf16": "utf16.jsonl", "empty": "empty.jsonl"}
    (tmp_path / "utf16.jsonl").write_bytes(json.dumps(SOUND[0]).encode("utf-16"))
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    areas = {name: AuditSource(f"heldout.areas.{name}", str(tmp_path / path)) for name, path in paths.items()}
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(as_bytes(SOUND))[:-9])
    with pytest.raises(UserErrors) as caught:
        audit(AuditSource("data.train", str(tmp_path / "cut.jsonl.gz")), areas, FIELDS, {})
    got = ["No such file or directory", "a folder", "a pipe or device", "UTF-16 or UTF-32", "an empty file"]
    assert [error.got for error in caught.value.errors[:5]] == got
    assert caught.value.errors[5].rule == "data file must be readable to its end"


def test_an_action_that_is_not_allowed_is_refused_before_anything_is_read():
    with pytest.raises(UserError, match=r"data.on_defect.broken_json: must be fail or drop, got keep"):
        audit(AuditSource("data.train", "gone.jsonl"), {}, FIELDS, {"broken_json": "keep"})


def test_a_file_that_changed_after_its_audit_is_refused(tmp_path):
    train, _ = sources(tmp_path, SOUND, {})
    done = audit(train, {}, FIELDS, {})
    written(tmp_path, [*SOUND[:5], b"{", *SOUND[6:]])
    with pytest.raises(UserError, match="must not change after its audit, got 29 samples"):
        kept_samples(train, FIELDS, done.train)


def test_gzip_and_parquet_give_the_same_findings(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lines = [*SOUND, *FAULTY[2:]]
    paths = [written(tmp_path, lines), str(tmp_path / "t.jsonl.gz"), str(tmp_path / "t.parquet")]
    Path(paths[1]).write_bytes(gzip.compress(as_bytes(lines)))
    pq.write_table(pa.Table.from_pylist(lines), paths[2])
    found = [audit(AuditSource("data.train", path), {}, FIELDS, {}).to_json()["train"] for path in paths]
    counts = [{rule: one["lines"] for rule, one in each["rules"].items()} for each in found]
    assert counts[0] == counts[1] == counts[2]
    assert found[2]["rules"]["exact_duplicate"]["examples"][0]["related"] == f"{paths[2]} row 4"


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        (b'{"id": "a", "prompt": "' + b"x" * 10**6 + b'", "response": "y"}', []),
        (json.dumps(sample("a", "p" + "é" * 10**6, "Ã " * 10**6)).encode(), ["mojibake"]),
        (json.dumps(sample("a", " \n\n" * 10**5 + "Question:" * 10**5, "A: " * 10**5)).encode(), []),
        (json.dumps(sample("a", "1 " * 10**6)).encode(), []),
        (b"[" * 10**6, ["broken_json"]),
        (b"\0" * 10**6, ["broken_json"]),
        (json.dumps(sample("a", "\0" * 100)).encode(), ["control_characters"]),
        (b'{"id": "a", "prompt": "p", "response": "r", "x": [' + b"[]," * 10**5 + b"0]}", []),
    ],
)  # fmt: skip
def test_hostile_lines_are_findings_and_take_no_time(line, rules):
    audit = audited([SOUND[0], line, SOUND[1]], {"area": [line]})
    assert set(audit.train.hits) - {"leakage"} == set(rules)
    assert audit.train.samples_read == 2 + ("broken_json" not in rules)


def test_a_long_line_is_read_past_and_a_bomb_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(json_lines, "HARMLESS_BYTES", 10**6)
    long = b'{"id": "' + b"x" * 5000 + b'"}'
    done = audit(AuditSource("data.train", written(tmp_path, [long, SOUND[0]])), {}, FIELDS, {})
    assert done.train.hits["line_too_long"].lines.tolist() == [1]
    for name, content in (("one_line", b"a" * 10**7), ("no_lines", b"\n" * 10**7)):
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(gzip.compress(content))
        with pytest.raises(UserErrors, match=r"gzip data must not expand more than 200-fold, got \d+ MB from"):
            audit(AuditSource("data.train", str(path)), {}, FIELDS, {})


def test_the_audit_imports_no_framework():
    code = (
        "import sys, trainables.data.audit.audit\n"
        "heavy = {'torch', 'transformers', 'ray', 'sklearn', 'scipy', 'pandas', 'pyarrow', 'ftfy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


texts = st.text(st.characters() | st.sampled_from("Question: \n\0—â€\ufffd[INST]"), max_size=30)
keys = st.sampled_from(["id", "prompt", "response", "messages", "group"])
messages = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": texts}))
values = st.dictionaries(keys, texts | st.none() | messages | st.integers(), max_size=5)
whole = st.fixed_dictionaries({"id": texts, "prompt": texts, "response": texts})
lines = st.one_of(
    st.binary(max_size=40),
    values.map(lambda value: json.dumps(value).encode()),
    whole.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([json.dumps(one).encode() for one in [*SOUND[:2], *FAULTY[1:], *ITEMS[:2]]]),
)
files = st.lists(lines, max_size=6).map(b"\n".join)


@settings(deadline=None, max_examples=150)
@given(train=files, area=files, name=st.sampled_from(["x.jsonl", "x.jsonl.gz", "x.parquet"]), limit=st.integers(1, 4))
@example(train=b"", area=b"", name="x.jsonl", limit=1)
@example(train=b"{}", area=as_bytes(ITEMS), name="x.jsonl", limit=4)
def test_no_bytes_make_the_audit_raise_anything_but_user_errors(tmp_path_factory, train, area, name, limit):
    folder = tmp_path_factory.getbasetemp()
    (folder / name).write_bytes(train)
    (folder / "area.jsonl").write_bytes(area)
    data = AuditSource("data.train", str(folder / name), limit)
    dropping = dict.fromkeys(["broken_json", "wrong_type", "missing_field", "empty_prompt", "mojibake"], "drop")
    try:
        done = audit(data, {"a": AuditSource("heldout.areas.a", str(folder / "area.jsonl"))}, FIELDS, dropping)
    except (UserError, UserErrors) as error:
        str(error).encode()
        return
    json.dumps(done.to_json()).encode()
    assert all("\n" not in str(error) for error in done.failures())
    kept = kept_samples(data, FIELDS, done.train)
    assert len(kept) == done.train.samples_kept <= limit
    if not done.failures():
        assert len({one.id for one in kept}) == len(kept)
