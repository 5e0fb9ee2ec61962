import json
import re
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from tests.unit.trainables.data.independence.helpers import ROOT, demo, halves, made, needs_shared, sample, shared
from trainables.data.independence import examine as examine_module
from trainables.data.independence.answer_kinds import AnswerKinds
from trainables.data.independence.coverage import FarItems, Unsupported
from trainables.data.independence.examine import AreaReport, examine
from trainables.data.independence.findings import findings
from trainables.data.independence.power import assumed_power
from trainables.data.independence.question_templates import TemplateOverlap
from trainables.data.independence.shared_sources import SharedRuns, SharedSource
from trainables.data.independence.texts import Limits, group_of, sample_texts
from trainables.data.independence.two_sample import TwoSample
from trainables.data.samples import context_group

AREAS = ("tables", "invoices", "contracts", "reports")
SILENT = AreaReport(
    items=60,
    items_looked_at=60,
    train_samples=400,
    train_looked_at=400,
    two_sample=TwoSample(0.995, 0.99, 1.0, "no_evidence", "question and response", 180, 60, 90, 20),
    shared_sources=[],
    template_overlap=TemplateOverlap(0.0, 0, 0.5, 0, []),
    shared_runs=SharedRuns(0, 0.0, 0, []),
    answer_kinds=AnswerKinds({"money": 1.0}, {"money": 1.0}, [], []),
    far_items=FarItems(0, 0.0, [], 60, 0.2),
    unsupported=Unsupported(0, 0.0, [], 0.0),
    power=assumed_power(20),
)


def rules(report):
    return {rule: severity for rule, severity, _ in findings({"tables": report})}


@pytest.fixture(scope="module")
def demo_reports():
    return examine(demo("train.jsonl"), {name: demo(f"heldout/{name}.jsonl") for name in AREAS})


def test_the_demos_areas_draw_no_warning(demo_reports):
    assert [found for found in findings(demo_reports) if found[1] != "info"] == []
    for report in demo_reports.values():
        assert (report.items, report.train_samples, report.train_looked_at) == (60, 400, 400)
        assert report.power.clusters == report.two_sample.groups == 20
        assert report.power.smallest_nll_difference == pytest.approx(0.169, abs=0.001)

    kept = json.loads(json.dumps(asdict(demo_reports["tables"])))
    assert kept["two_sample"]["verdict"] == "no_evidence"
    assert kept["answer_kinds"]["train"]["money"] == pytest.approx(0.61)
    assert kept["far_items"]["ids"][0].startswith("tables-")


def test_a_half_of_a_training_set_is_a_warning_with_its_figures():
    train, area = halves(demo("train.jsonl"), group_of, 0)
    reports = examine(train, {"half": area})
    found = {rule: message for rule, severity, message in findings(reports) if severity == "warning"}
    assert {"same_process", "shared_source", "shared_templates"} <= set(found)
    check = reports["half"].two_sample
    assert f"AUC {check.auc:.2f}, 95 % CI {check.low:.2f} to {check.high:.2f}" in found["same_process"]
    assert "'demo generated' (200 of 200 items, 200 of training)" in found["shared_source"]


def test_same_seed_same_result():
    train, area = made("plain", 30, seed=1), {"a": made("plain", 25, seed=2)}
    assert examine(train, area, seed=3) == examine(train, area, seed=3)
    assert examine(train, {}) == {}


@pytest.mark.parametrize(("train", "areas"), [([], {"a": [1]}), ([1], {"a": []})])
def test_empty_sets_are_refused(train, areas):
    some = made("plain", 2, seed=1)
    with pytest.raises(ValueError, match=r"must hold samples: (the training set|a)$"):
        examine(some if train else [], {name: some if items else [] for name, items in areas.items()})


def test_a_silent_report_is_unproven_and_never_called_real():
    assert rules(SILENT) == {"no_evidence": "info", "power": "info"}
    text = " ".join(message for _, _, message in findings({"a": SILENT}))
    assert "no proof" in text
    assert not re.search(r"\breal\b|is independent|passed", text)
    assert findings({}) == []


RUN = [{"id": "x", "run": "w " * 13}]
TEMPLATES = [{"template": "what was the change in @", "items": 3, "train": 9}]
TOO_SMALL = TwoSample(None, None, None, "too_small", "question and response", 180, 5, 90, 5)
ALL_ASK_THE_SAME = {
    "template_overlap": TemplateOverlap(1.0, 60, 1.0, 0, TEMPLATES),
    "two_sample": replace(SILENT.two_sample, compared="prompt and response"),
}


@pytest.mark.parametrize(
    ("changed", "rule", "severity"),
    [
        ({"two_sample": replace(SILENT.two_sample, high=0.89, verdict="same_process")}, "same_process", "warning"),
        ({"two_sample": TOO_SMALL}, "two_sample_too_small", "info"),
        ({"shared_sources": [SharedSource("web", 3, 7)]}, "shared_source", "warning"),
        ({"template_overlap": TemplateOverlap(0.25, 15, 0.5, 0, TEMPLATES)}, "shared_templates", "warning"),
        ({"template_overlap": TemplateOverlap(0.24, 14, 0.5, 0, TEMPLATES)}, "shared_templates", None),
        ({"template_overlap": TemplateOverlap(0.05, 5, 0.0, 0, TEMPLATES)}, "shared_templates", "warning"),
        ({"template_overlap": TemplateOverlap(0.04, 5, 0.0, 0, TEMPLATES)}, "shared_templates", None),
        ({"template_overlap": TemplateOverlap(0.8, 4, 0.5, 0, TEMPLATES)}, "shared_templates", None),
        (ALL_ASK_THE_SAME, "shared_templates", None),
        ({"shared_runs": SharedRuns(3, 0.05, 13, RUN)}, "shared_context", "warning"),
        ({"shared_runs": SharedRuns(2, 0.03, 13, RUN)}, "shared_context", "info"),
        ({"answer_kinds": AnswerKinds({}, {"list": 0.1}, ["list"], [])}, "unseen_answer_kinds", "info"),
        ({"answer_kinds": AnswerKinds({"list": 0.1}, {}, [], ["list"])}, "untested_answer_kinds", "info"),
        ({"far_items": FarItems(3, 0.05, ["a"], 60, 0.2)}, "far_items", "info"),
        ({"far_items": FarItems(2, 0.03, ["a"], 60, 0.2)}, "far_items", None),
        ({"far_items": None}, "far_items", None),
        ({"unsupported": Unsupported(3, 0.05, ["a"], 0.0)}, "unsupported_responses", "info"),
        ({"unsupported": Unsupported(0, 0.0, [], 0.05)}, "unsupported_responses", "info"),
        ({"unsupported": Unsupported(2, 0.03, ["a"], 0.03)}, "unsupported_responses", None),
    ],
)
def test_what_is_said_when(changed, rule, severity):
    assert rules(replace(SILENT, **changed)).get(rule) == severity


def test_messages_are_one_line_name_the_area_and_say_what_to_do():
    bad = replace(
        SILENT,
        two_sample=replace(SILENT.two_sample, auc=0.61, low=0.5, high=0.7, verdict="same_process"),
        shared_sources=[SharedSource(f"line\n{i}", 9 - i, 7) for i in range(5)],
        template_overlap=TemplateOverlap(0.5, 30, 0.5, 0, TEMPLATES),
        shared_runs=SharedRuns(30, 0.5, 40, RUN),
        far_items=FarItems(30, 0.5, ["a"], 60, 0.2),
        answer_kinds=AnswerKinds({"money": 1.0}, {"list": 1.0}, ["list"], ["money"]),
        unsupported=Unsupported(30, 0.5, ["a"], 0.1),
    )
    found = findings({"ledgers": bad, "clear": SILENT})
    warned = [rule for rule, severity, _ in found if severity == "warning"]
    assert warned == ["same_process", "shared_source", "shared_templates", "shared_context"]
    for _, _, message in found:
        assert "\n" not in message
        assert re.search(r"\d", message)
        assert "ledgers" in message or message.startswith("differs clearly from the training data")
        assert ";" in message
    assert "and 2 more" in found[1][2]


def test_kinds_that_another_area_tests_are_not_missed():
    kinds = AnswerKinds({"money": 0.5, "list": 0.5}, {"money": 1.0}, [], ["list"])
    both = {"a": replace(SILENT, answer_kinds=kinds), "b": SILENT}
    assert "untested_answer_kinds" in {rule for rule, _, _ in findings({"a": both["a"]})}
    assert "untested_answer_kinds" not in {rule for rule, _, _ in findings(both)}


def test_a_group_key_comes_before_the_context():
    assert group_of(sample("a", "text\n\nQuestion: x", "y", group=7)) == "7"
    assert group_of(sample("a", "text\n\nQuestion: x", "y")) == context_group("text\n\nQuestion: z")


@pytest.mark.parametrize(("limits", "taken"), [((10, 10**9), 10), ((10**9, 1), 1), ((10**9, 10**9), 60)])
def test_of_a_large_set_a_random_part_in_order(limits, taken):
    samples = made("plain", 30, seed=1)
    found = [text.id for text in sample_texts(samples, Limits(*limits), 0)]
    assert len(found) == taken
    assert found == [s.id for s in samples if s.id in set(found)]
    assert taken == 60 or found != [text.id for text in sample_texts(samples, Limits(*limits), 1)]


def test_a_huge_training_set_costs_no_more(monkeypatch):
    monkeypatch.setattr(examine_module, "TRAIN_LIMITS", Limits(100, 10**9))
    train = made("plain", 60, seed=1)
    report = examine(train * 2000, {"a": made("plain", 25, seed=2)})["a"]
    assert (report.train_samples, report.train_looked_at) == (240_000, 100)
    assert report.two_sample.train_used <= 100


def test_huge_and_odd_texts_are_survived():
    odd = ["x" * 300_000, "\x00" * 10, "日本語の質問", "." * 300_000, "\n\n\n", "1" * 300_000, "𝔘nicode\u2028line"]
    samples = [sample(f"o{i}", text, text) for i, text in enumerate(odd)]
    report = examine([*samples, *made("plain", 20, seed=1)], {"odd": samples})["odd"]
    assert report.items == len(odd)
    assert json.dumps(asdict(report))
    assert findings({"odd": report})


def test_scikit_learn_is_imported_only_when_needed():
    code = (
        "import sys; import trainables.data.independence.examine; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"sklearn", "scipy", "torch", "transformers", "ray"} & set(done.stdout.split())


@needs_shared
def test_of_five_real_areas_only_the_training_sets_own_process_is_warned_of():
    names = ("fin_tables", "fin_reports", "contracts", "receipts", "intent")
    reports = examine(shared("train.jsonl"), {name: shared(f"heldout/{name}.jsonl") for name in names})
    verdicts = {name: report.two_sample.verdict for name, report in reports.items()}
    assert verdicts == {"fin_tables": "same_process", **dict.fromkeys(names[1:], "no_evidence")}
    warned = [(rule, message) for rule, severity, message in findings(reports) if severity == "warning"]
    assert [rule for rule, _ in warned] == ["same_process", "shared_source", "shared_templates"]
    assert all("held-out area fin_tables" in message for _, message in warned)
    assert reports["fin_tables"].far_items.share < 0.03 < reports["receipts"].far_items.share
    assert reports["contracts"].answer_kinds.only_in_area == ["yes/no"]
    assert reports["fin_tables"].unsupported.share == pytest.approx(0.44, abs=0.02)
