"""The audit against a file whose faulty lines are known, where the data lies beside the project."""

import json
from pathlib import Path

import pytest

from tests.unit.trainables.data.audit.helpers import FIELDS
from trainables.config.defect_rules import RULES
from trainables.data.audit.audit import AuditSource, audit, kept_samples
from trainables.data.tokenization import tokenize

PROJECT = Path(__file__).resolve().parents[5]
DATA = PROJECT.parent / "shared" / "data" / "fin_tables"
MODEL = PROJECT / ".cache" / "models" / "SmolLM2-135M-Instruct"
AREAS = ("fin_tables", "fin_reports", "contracts", "receipts", "intent")
NAMES = {"over_long": "too_long", "heldout_leak": "leakage"}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the fin_tables data")


def audited_file(name):
    areas = {area: AuditSource(f"heldout.areas.{area}", str(DATA / "heldout" / f"{area}.jsonl")) for area in AREAS}
    return audit(AuditSource("data.train", str(DATA / name)), areas, FIELDS, {}, processes=1)


def test_every_faulty_line_is_found_by_its_rule_and_no_other_line():
    manifest = json.loads((DATA / "dirty_manifest.json").read_text())
    expected = {NAMES.get(rule, rule): lines for rule, lines in manifest["lines_by_defect"].items()}
    over_long = expected.pop("too_long")
    done = audited_file("dirty.jsonl")
    found = {rule: one.lines.tolist() for rule, one in done.train.hits.items()}
    departures = found.pop("format_departure")  # near duplicates whose "Question:" is written otherwise
    assert found == expected
    assert set(departures) <= set(expected["near_duplicate"])
    assert not set(over_long) & set(done.train.dropped_lines.tolist())
    areas = done.train.hits["leakage"].areas
    assert {area: lines.tolist() for area, lines in areas.items()} == {"fin_tables": expected["leakage"]}
    of_lines = {d["line"]: d.get("of_line", d.get("heldout_line")) for d in manifest["defects"]}
    for rule in ("exact_duplicate", "near_duplicate", "leakage"):
        for hit in done.train.hits[rule].examples:
            assert f".jsonl line {of_lines[hit.line]}" in hit.related


def test_the_clean_file_and_the_held_out_sets_have_no_fault():
    done = audited_file("train.jsonl")
    for one in done.sets():
        assert {rule: len(found.lines) for rule, found in one.hits.items() if RULES[rule].severity != "info"} == {}
        assert one.samples_kept == one.lines


@pytest.mark.skipif(not MODEL.is_dir(), reason="needs the demo's model")
def test_the_over_long_lines_are_those_that_the_tokenizer_finds(tmp_path):
    tokenizer = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(MODEL)
    source = AuditSource("data.train", str(DATA / "dirty.jsonl"))
    actions = {rule: "drop" for rule, one in RULES.items() if one.default == "fail"}
    done = audit(source, {}, FIELDS, actions, processes=1)
    kept = kept_samples(source, FIELDS, done.train)
    too_long = tokenize(kept, tokenizer, None, 536, tmp_path / "t.arrow").too_long
    done.add_too_long("data.train", {item.line: item.tokens for item in too_long}, 536)
    manifest = json.loads((DATA / "dirty_manifest.json").read_text())
    assert done.train.hits["too_long"].lines.tolist() == manifest["lines_by_defect"]["over_long"]
    assert len(kept_samples(source, FIELDS, done.train)) == done.train.samples_kept == len(kept) - 10
