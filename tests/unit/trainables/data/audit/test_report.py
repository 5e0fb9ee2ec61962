import json

import numpy as np

from tests.unit.trainables.data.audit.helpers import audited, sample
from trainables.config.defect_rules import default_actions
from trainables.data.audit.audit import Audit
from trainables.data.audit.report import Hit, SetAudit


def set_audit(**actions):
    return SetAudit("data.train", "d.jsonl", 30, np.arange(1, 26), default_actions() | actions)


def test_a_line_that_several_rules_drop_is_counted_once():
    found = set_audit(mojibake="drop", leakage="drop")
    found.add("mojibake", [3, 5, 9], [])
    found.add("leakage", [5], [])
    found.add("near_duplicate", [9, 10], [])
    found.add("broken_json", [28], [])
    assert found.dropped == {"near_duplicate": 2, "leakage": 1, "mojibake": 1}
    assert found.dropped_lines.tolist() == [3, 5, 9, 10]
    assert (found.samples_read, found.samples_kept) == (25, 21)
    found = set_audit(broken_json="drop")
    found.add("broken_json", [26, 27], [])  # without a sample
    assert (found.dropped, found.samples_read, found.samples_kept) == ({"broken_json": 2}, 25, 25)


def test_failures_show_twenty_lines_of_a_rule_and_then_the_count():
    found = set_audit()
    found.add("mojibake", range(1, 24), [Hit("mojibake", i, "x") for i in range(1, 21)])
    found.add("leakage", [2], [Hit("leakage", 2, "'a?', the same text", "h.jsonl line 4 (area h)")])
    found.add("near_duplicate", [5], [Hit("near_duplicate", 5, "'b'", "d.jsonl line 1")])
    shown = [str(error) for error in found.failures()]
    assert shown[0] == (
        "d.jsonl line 2: must not hold a held-out item, got 'a?', the same text, see h.jsonl line 4 (area h); "
        "remove it from the training set, take the item out of the held-out area, or set data.on_defect.leakage=drop "
        "(1 line)"
    )
    assert len(shown) == 1 + 20 + 1
    assert "got 23 such lines, 20 of them above; " in shown[-1]


def test_a_line_with_two_faults_of_one_rule_is_one_line():
    found = audited([{"id": True, "prompt": 2, "response": "r"}, sample("b")]).train
    assert found.hits["wrong_type"].lines.tolist() == [1]
    assert len(found.hits["wrong_type"].examples) == 2
    assert len(list(found.failures())) == 2


def test_a_set_of_which_nothing_is_left_fails():
    audit = audited([b"{", sample("b", response="Ã¨")], actions={"broken_json": "drop", "mojibake": "drop"})
    (error,) = audit.failures()
    assert "must hold samples, got none of 2 lines (broken_json: 1, mojibake: 1); " in str(error)


def test_the_json_holds_counts_lines_and_examples():
    item = sample("h", "Who was it that wrote the play called Hamlet?")
    lines = [sample("a"), sample("a2", "What is called a?"), sample("x", item["prompt"], "a word"), b"{", sample("c")]
    audit = audited(lines, {"area": [item]}, {"broken_json": "drop"})
    audit.add_too_long("data.train", {5: 99}, 64)
    audit.add_too_long("heldout.areas.area", {}, 64)
    written = json.loads(json.dumps(audit.to_json()))
    train = written["train"]
    assert (train["lines"], train["samples_read"], train["samples_kept"]) == (5, 4, 3)
    assert train["dropped"] == {"broken_json": 1, "exact_duplicate": 1}
    assert list(train["rules"]) == ["broken_json", "exact_duplicate", "leakage", "too_long"]
    examples = [{"line": 5, "got": "99 tokens (max_tokens=64)", "related": None}]
    expected = {"severity": "error", "action": "fail", "count": 1, "lines": [5], "examples": examples}
    assert train["rules"]["too_long"] == expected
    assert train["rules"]["leakage"]["areas"] == {"area": [3]}
    assert written["areas"]["area"]["rules"] == {}
    assert train["rules"]["exact_duplicate"]["examples"][0]["related"] == f"{train['path']} line 1"


def test_too_long_samples_can_be_dropped():
    audit = audited([sample("a"), sample("b")], actions={"too_long": "drop"})
    audit.add_too_long("data.train", {2: 99}, 64)
    assert isinstance(audit, Audit)
    assert (audit.train.samples_kept, audit.train.dropped, audit.failures()) == (1, {"too_long": 1}, [])
