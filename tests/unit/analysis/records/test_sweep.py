"""Reading a sweep's folder: whole, torn, repeated, broken and missing files."""

import json
import math
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.records.json_files import read_json_lines
from analysis.records.sweep import read_heldout, read_sweep
from analysis.stats.multiple_comparisons import Separation
from tests.unit.analysis.conftest import FakeTrial
from trainables.errors import UserError

ITEM = {"step": 4, "area": "a", "id": "1", "nll": 0.5, "tokens": 3}


def test_a_sweep_is_read_back(write_sweep):
    folder = write_sweep([FakeTrial("t2", {5: 0.1, 10: 0.2}), FakeTrial("t1", {10: 0.3})], {"a": 2.0, "b": 1.0})
    (folder / "trials" / "t1" / "curve.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n')
    sweep = read_sweep(folder)
    assert sweep.name == "sweep"
    assert sweep.weights == {"a": 2.0, "b": 1.0}
    assert [trial.trial_id for trial in sweep.trials] == ["t1", "t2"]
    assert sweep.trials[1].params["peak_lr"] == 3e-4
    assert sweep.notes == []
    assert sweep.baseline["a"]["items"] == 40
    scores = sweep.heldout("t2").by_step
    assert sorted(scores) == [5, 10]
    assert len(scores[5]) == 80
    assert scores[5]["a", "a-3"].group == "a-context-1"
    assert scores[5]["a", "a-3"].exact_match is None
    assert scores[10]["a", "a-4"].exact_match == 1.0
    assert list(sweep.heldout().by_step) == [0]
    assert [record["loss"] for record in sweep.curve("t1")[0]] == [2.0, 1.5]
    assert sweep.curve("t2") == ([], [])


def young_sweep(folder, config):
    """Reads a sweep that has only begun: there is its config."""
    (folder / "sweep.yaml").write_text(config)
    return read_sweep(folder)


def test_a_sweep_that_has_only_begun_has_no_trials(tmp_path):
    sweep = young_sweep(tmp_path, "name: young\nheldout: {areas: {a: a.jsonl}}\n")
    assert (sweep.trials, sweep.baseline, sweep.weights) == ([], None, {"a": 1.0})


WHOLE = '{"step": 5, "area": "\u00e4\\"{", "id": "7", "nll": {"of": [1.5]}}'


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, len(WHOLE.encode()) - 1))
def test_a_line_torn_anywhere_is_left_out_and_said(length):
    torn = WHOLE.encode()[:length]
    with tempfile.TemporaryDirectory() as folder:
        for after, expected in ((b"", [1]), (b'\n{"b": 2}\n', [1, 3])):  # killed; killed and resumed
            path = Path(folder) / "x.jsonl"
            path.write_bytes(b'{"a": 1}\n' + torn + after)
            records, notes = read_json_lines(path)
            assert [number for number, _ in records] == expected
            assert len(notes) == 1
            assert "line 2 was cut off" in notes[0]


def heldout_of(tmp_path, *lines):
    path = tmp_path / "heldout.jsonl"
    path.write_text("\n".join(lines))
    return read_heldout(path)


def test_a_last_line_counts_without_its_line_end_and_is_noted_where_it_is_torn(tmp_path):
    heldout = heldout_of(tmp_path, json.dumps(ITEM), '{"step": 4, "ar')
    assert (list(heldout.by_step), len(heldout.notes)) == ([4], 1)
    assert heldout_of(tmp_path, json.dumps(ITEM)).by_step[4]["a", "1"].nll == 0.5


@pytest.mark.parametrize("broken", ["[1]", "\xff\xfe", "12", "null", '{"a": 1}}', "{'a': 1}"])
def test_a_broken_line_elsewhere_is_an_error_that_names_it(tmp_path, broken):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n' + broken.encode("latin-1") + b'\n{"a": 2}\n')
    with pytest.raises(UserError, match=r"x\.jsonl line 2: must be a JSON object"):
        read_json_lines(path)


@pytest.mark.parametrize("field", ["step", "area", "id", "nll", "tokens"])
def test_an_item_without_a_field_is_an_error(tmp_path, field):
    with pytest.raises(UserError, match=f"line 1.*{field}"):
        heldout_of(tmp_path, json.dumps({key: value for key, value in ITEM.items() if key != field}))


def test_null_and_nan_losses_stay_nan_and_items_without_group_are_their_own(tmp_path):
    lines = [json.dumps({**ITEM, "nll": None}), json.dumps({**ITEM, "id": "2", "nll": math.nan})]
    scores = heldout_of(tmp_path, *lines).by_step[4]
    assert all(math.isnan(score.nll) for score in scores.values())
    assert [score.group for score in scores.values()] == ["1", "2"]


def test_an_item_scored_twice_counts_once_and_is_said(tmp_path):
    heldout = heldout_of(tmp_path, json.dumps(ITEM), json.dumps({**ITEM, "nll": 0.75}))
    assert heldout.by_step[4]["a", "1"].nll == 0.75
    assert "1 items stand there more than once" in heldout.notes[0]


def test_a_trial_that_stands_twice_counts_by_its_last_line(write_sweep):
    folder = write_sweep([FakeTrial("t1", {5: 0.1}, state="diverged"), FakeTrial("t1", {10: 0.2})])
    sweep = read_sweep(folder)
    assert [(trial.trial_id, trial.state) for trial in sweep.trials] == [("t1", "complete")]
    assert any("t1 more than once" in note for note in sweep.notes)


def test_missing_folders_are_user_errors_that_name_the_sweeps_nearby(write_sweep):
    folder = write_sweep([FakeTrial("t1", {5: 0.1})], name="mine")
    with pytest.raises(UserError, match="no such folder"):
        read_sweep(folder / "nothing")
    with pytest.raises(UserError, match=r"without sweep\.yaml.*mine"):
        read_sweep(folder.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "must be YAML"),
        ("- 1", "must be a mapping"),
        ("name: x", "at least one area"),
        ("heldout: {areas: {}}", "at least one area"),
        ("heldout: {areas: {a: {weight: 0}}}", "must be above 0"),
        ("heldout: {areas: {a: {weight: .nan}}}", "must be above 0"),
        ("heldout: {areas: {a: {weight: heavy}}}", "must be above 0"),
        ("heldout: {areas: {a: {role: hidden}}}", "heldout.areas.a.role: must be one of select, sealed, got hidden"),
        ("heldout: {areas: {a: {role: sealed}}}", "must have an area that selects"),
        ("heldout: {areas: {a: {not_worse_by: -0.1}}}", "heldout.areas.a.not_worse_by: must be 0 or above"),
        ("heldout: {areas: {a: {not_worse_by: some}}}", "heldout.areas.a.not_worse_by: must be 0 or above"),
        ("{heldout: {areas: {a: x}}, confirm: {seed_sd: 0}}", "confirm.seed_sd: must be above 0"),
        ("{heldout: {areas: {a: x}}, confirm: {alpha: 0}}", "confirm.alpha: must be above 0"),
        ("{heldout: {areas: {a: x}}, confirm: {alpha: 5}}", "confirm.alpha: must be at most 1"),
        ("{heldout: {areas: {a: x}}, confirm: {rounds: 9}}", "confirm.rounds: must be at most 4"),
        ("{heldout: {areas: {a: x}}, confirm: {budget: -1}}", "confirm.budget: must be 0 or above"),
        ("{heldout: {areas: {a: x}}, confirm: {looks: never}}", "confirm.looks: must be one of every_round, auto"),
        ("{heldout: {areas: {a: x}}, confirm: {budget: auto}}", "search.trials: must be above 0"),
    ],
)
def test_a_broken_sweep_yaml_is_a_user_error(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        young_sweep(tmp_path, text)


def test_a_weight_that_yaml_reads_as_text_is_a_number(tmp_path):
    text = "heldout: {areas: {a: {weight: 1e-4}, b: {}}}"
    assert yaml.safe_load(text)["heldout"]["areas"]["a"]["weight"] == "1e-4"  # why the reader converts
    assert young_sweep(tmp_path, text).weights == {"a": 1e-4, "b": 1.0}


def test_roles_guard_rails_and_seed_variance_are_read_and_may_be_missing(tmp_path):
    areas = (
        "a: {not_worse_by: 5e-2}, b: {role: sealed, weight: 3, not_worse_by: 0.1}, c: {not_worse_by: null}, d: d.jsonl"
    )
    sweep = young_sweep(tmp_path, f"{{heldout: {{areas: {{{areas}}}}}, confirm: {{seed_sd: 2e-2, alpha: 1e-1}}}}")
    assert sweep.weights == {"a": 1.0, "c": 1.0, "d": 1.0}
    assert (sweep.sealed, sweep.not_worse_by) == (("b",), {"a": 0.05})
    assert sweep.separation == Separation(alpha=0.1, seed_sd=0.02, looks="every_round")
    sweep = young_sweep(tmp_path, "heldout: {areas: {a: {path: a.jsonl, weight: 1.0}}}")  # of the first version
    assert (sweep.sealed, sweep.not_worse_by) == ((), {})
    assert sweep.separation == Separation(looks="every_round")  # as it was before the key


@pytest.mark.parametrize(("trials", "budget"), [(11, 0), (12, 4)])
def test_an_automatic_budget_is_read_as_the_sweep_resolved_it(tmp_path, trials, budget):
    confirm = f"search: {{trials: {trials}}}, confirm: {{budget: auto, looks: auto}}"
    sweep = young_sweep(tmp_path, f"{{heldout: {{areas: {{a: x}}}}, {confirm}}}")
    assert sweep.separation == Separation(budget=budget)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("trials.jsonl", '{"state": "complete"}', r"trials\.jsonl line 1"),
        ("trials.jsonl", '{"trial_id": "t", "state": "fine"}', r"trials\.jsonl line 1"),
        ("baseline.json", '{"area": 1}', r"baseline\.json"),
    ],
)
def test_a_broken_baseline_and_a_trial_without_id_or_known_state_are_user_errors(tmp_path, file, line, message):
    (tmp_path / file).write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        young_sweep(tmp_path, "heldout: {areas: {a: a.jsonl}}")
