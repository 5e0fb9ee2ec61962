"""A benchmark whose files are damaged, foreign or of one moment: one line that names the file, or the right version."""

import json

import pytest

from analysis.benchmark.__main__ import main
from analysis.benchmark.fixed_areas import read_areas
from analysis.benchmark.scoring import fix
from analysis.benchmark.storage import FOLDER, Files, latest

DEEP = "[" * 100_000
ITEM = {"id": "1", "group": "g", "nll": 1.0, "tokens": 2, "bytes": 3, "answer": "x", "exact_match": 1.0,
        "token_f1": 1.0, "scores": {}}  # fmt: skip
ENTRY = {"label": "m", "key": "k", "scored": "2026", "place": "p", "precision": "fp32"}


@pytest.fixture
def fixed(tmp_path):
    """A benchmark of one item with one model; its name and its folder."""
    (tmp_path / "area.jsonl").write_text('{"id": "1", "prompt": "p", "response": "r"}\n')
    name = fix(Files(str(tmp_path)), read_areas("bm", [str(tmp_path / "area.jsonl")], None))
    folder = tmp_path / FOLDER / name
    for place in ("models", "scores/k"):
        (folder / place).mkdir(parents=True)
    (folder / "models" / "m.json").write_text(json.dumps(ENTRY))
    (folder / "scores" / "k" / "area.json").write_text(json.dumps({"tokens_sha256": "t", "items": [ITEM]}))
    return name, folder


def shown(tmp_path, *more):
    return main(["bm", "show", "--storage", str(tmp_path), *more])


SCORES, MODEL, AREAS = "scores/k/area.json", "models/m.json", "benchmark.json"
DAMAGE = [
    *((SCORES, text) for text in ("[]", "{}", DEEP, "", '{"tokens_sha256": "t", "items": []}', '{"items": 5}')),
    *((SCORES, json.dumps({"tokens_sha256": "t", "items": items})) for items in (["a"], [{"id": "1"}], None)),
    (SCORES, json.dumps({"tokens_sha256": "t", "items": [{**ITEM, "id": "2"}]})),
    (SCORES, json.dumps({"tokens_sha256": "t", "items": [ITEM, {**ITEM, "id": "2"}]})),
    (SCORES, json.dumps({"items": [ITEM]})),
    *((MODEL, text) for text in ('{"label": 5}', '{"label": "m"}', DEEP, "[1]", "")),
    *((AREAS, text) for text in ("[]", DEEP, '{"name": "bm", "content": null}', "{")),
]


@pytest.mark.parametrize(("file", "content"), DAMAGE, ids=[f"{file} {text[:30]}" for file, text in DAMAGE])
def test_a_damaged_file_is_one_line_that_names_it(fixed, tmp_path, capsys, file, content):
    assert shown(tmp_path) == 0
    capsys.readouterr()
    (fixed[1] / file).write_text(content)
    assert shown(tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert file in said


def test_of_versions_that_are_fixed_at_one_moment_the_last_is_the_latest(tmp_path):
    files, names = Files(str(tmp_path)), []
    for number in range(8):
        (tmp_path / "area.jsonl").write_text(f'{{"id": "1", "prompt": "p{number}", "response": "r"}}\n')
        names.append(fix(files, read_areas("bm", [str(tmp_path / "area.jsonl")], None)))
        assert latest(files, "bm") == names[-1]
    assert len(set(names)) == 8


def test_a_foreign_folder_is_no_benchmark(fixed, tmp_path, capsys):
    (tmp_path / FOLDER / "foreign").mkdir()
    (tmp_path / FOLDER / "foreign" / "benchmark.json").write_text('{"fixed": 5}')
    assert latest(Files(str(tmp_path)), "bm") == fixed[0]
    assert main(["none", "show", "--storage", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("; one of bm\n")


@pytest.mark.parametrize("model", ["", " "])
def test_a_model_without_a_name_is_one_line(fixed, tmp_path, capsys, model):
    assert main([fixed[0], "--models", model, "--storage", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: --models")
