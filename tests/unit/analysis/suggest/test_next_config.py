"""Planted evidence moves the right bound the right way, and the suggested config is one that runs."""

import dataclasses
import json
import math
import re
import shutil

import pytest
import yaml

from analysis.advice.advice import advise, changes
from analysis.advice.evidence import Setting, Span, SweepEvidence
from analysis.rank.leaderboard import leaderboard
from analysis.records.lineage import _leaves
from analysis.records.lineage import changes as changes_of_sweeps
from analysis.suggest.__main__ import main
from analysis.suggest.next_config import next_name, suggest
from sweeps.config.sweep_config import load_config
from sweeps.run import main as run_sweep
from tests.unit.analysis.synthetic_sweep import Truth, state_seed_sd, write_synthetic_sweep

PEAK = Span(5e-5, 2e-3, log=True)
FLOOR = Span(4e-5, 5e-5, log=False)


def setting(peak_lr, tied=False, **more):
    return Setting(f"at-{peak_lr:g}", {"peak_lr": peak_lr, "decay_floor": 4.5e-5}, tied, **more)


def seen(*peaks, tied=(), **more):
    """Settings at these peak LRs, the first the winner."""
    settings = [setting(peak, tied=peak in tied) for peak in peaks]
    space = {"peak_lr": PEAK, "decay_floor": FLOOR}
    return SweepEvidence(**{"space": space, "settings": settings, "ended": len(peaks), "gain": (0.4, 0.6), **more})


def floors(*peaks):
    """A winner at the highest floor and a peak LR of 3.5e-4; the others have low floors and these peak LRs."""
    winner = Setting("best", {"peak_lr": 3.5e-4, "decay_floor": 4.98e-5}, False)
    return [winner, *(Setting(f"{peak}", {"peak_lr": peak, "decay_floor": 4.1e-5}, False) for peak in peaks)]


CASES = {
    "optimum at the upper bound": (seen(1.9e-3, 6e-4, 2e-4, 6e-5), {"space.peak_lr.high": 4e-3}),
    "optimum at the upper bound, the neighbour tied": (
        seen(1.9e-3, 1.6e-3, 2e-4, 6e-5, tied=(1.6e-3,)),
        {"space.peak_lr.high": 4e-3, "confirm.budget": 4},
    ),
    "optimum at the lower bound": (seen(5.5e-5, 2e-4, 6e-4, 1.5e-3), {"space.peak_lr.low": 2.5e-5}),
    "optimum inside": (seen(3e-4, 6e-4, 1e-4, 1.5e-3), {}),
    "at the bound, but what is tied is not": (
        seen(1.9e-3, 2e-4, 6e-4, 6e-5, tied=(2e-4,)),
        {"confirm.budget": 4},
    ),
    "at the bound, but too few settings to judge": (seen(1.9e-3, 2e-4), {}),
    "by chance at a floor's bound: those elsewhere had other peak LRs": (seen(settings=floors(6e-5, 1.5e-3)), {}),
    "at a floor's bound, and those elsewhere with like peak LRs are worse": (
        seen(settings=floors(3e-4, 4e-4)),
        {"space.decay_floor.high": 5.5e-5},
    ),
    "at the bound, but higher ones diverged": (
        seen(1.7e-3, 6e-4, 2e-4, 6e-5, diverged=[{"peak_lr": 1.9e-3}], ended=6),
        {},
    ),
    "too high": (
        seen(4e-4, 2e-4, 1e-4, diverged=[{"peak_lr": 1e-3}, {"peak_lr": 1.6e-3}], ended=5),
        {"space.peak_lr.high": float(f"{math.sqrt(4e-4 * 1e-3):.2g}")},
    ),
    "diverged at low peaks too, without clipping": (
        seen(1e-3, 5e-4, diverged=[{"peak_lr": 1e-4}], ended=3, max_grad_norm=0.0),
        {"training.max_grad_norm": 1.0},
    ),
    "one unlucky trial": (seen(4e-4, *[2e-4] * 8, diverged=[{"peak_lr": 1e-3}], ended=10), {}),
    "all diverged": (
        seen(diverged=[{"peak_lr": 1e-3}, {"peak_lr": 4e-4}], ended=2),
        {"space.peak_lr.low": 2e-5, "space.peak_lr.high": 2e-4},
    ),
    "too little data": (seen(3e-4, 6e-4, 1e-4, still_falling=True, data_limit=240), {"data.limit": 480}),
    "too little data, measured": (seen(3e-4, 1e-4, more_data="more data helps", data_limit=100), {"data.limit": 200}),
    "still falling, but more data hardly helps": (
        seen(3e-4, 1e-4, still_falling=True, more_data="more data hardly helps", data_limit=240),
        {},
    ),
    "too little data, none left": (seen(3e-4, 6e-4, 1e-4, still_falling=True), {}),
    "flat": (seen(3e-4, 6e-4, 6e-5, 1.5e-3, tied=(6e-4, 6e-5, 1.5e-3), trials=16), {"search.trials": 8}),
    "a tie that replicates could not part": (
        seen(3e-4, 4e-4, 1e-4, settings=[setting(3e-4, replicated=True), setting(4e-4, tied=True, replicated=True)]),
        {},
    ),
    "an area got worse, and a lower peak did not": (
        seen(8e-4, 3e-4, 1e-4, worse={"prose": 0.2}),
        {"space.peak_lr.high": 8e-4},
    ),
    "an area got worse with all": (
        seen(8e-4, worse={"prose": 0.2}, settings=[setting(8e-4), setting(3e-4, passes=False)]),
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_planted_evidence_moves_what_it_should_and_nothing_else(case):
    evidence, expected = CASES[case]
    assert {key: value for key, (value, _) in changes(advise(evidence)).items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("evidence", "rule"),
    [
        (seen(3e-4, gain=(-0.1, 0.2)), "no_gain"),
        (seen(7.6e-4, 3e-4, 1e-4), "outermost"),  # the highest tried, in a range to 2e-3
        (seen(1.5e-4, 3e-4, 6e-4), "outermost"),
        (seen(3e-4, none_right="exact match"), "none_right"),
        (seen(3e-4, steps=6), "few_steps"),
        (seen(3e-4, 6e-4, 1e-4), "few_trials"),
        (seen(3e-4, still_falling=True), "more_data"),
        (seen(8e-4, worse={"prose": 0.2}), "worse_areas"),
        (seen(ended=3), "no_evidence"),
    ],
)
def test_what_no_config_can_do_is_said(evidence, rule):
    (advice,) = (one for one in advise(evidence) if one.rule == rule)
    assert advice.reason
    assert not advice.changes


def test_where_all_are_tied_over_the_range_the_best_one_asks_for_no_higher_lr():
    flat = seen(1.1e-3, 1.6e-4, 3e-4, 7e-4, tied=(1.6e-4, 3e-4, 7e-4))
    assert [one.rule for one in advise(flat)] == ["flat"]


@pytest.mark.parametrize(
    ("cut", "decides", "expected"),
    [
        ({"tables": (3, 24, 32)}, False, {"heldout.areas.tables.max_new_tokens": 64}),
        ({"tables": (2, 24, 32)}, False, None),  # below a tenth
        ({"tables": (24, 24, 32)}, True, {}),  # another limit would make the two sweeps' objectives differ
        ({"a.b": (24, 24, 100)}, False, {}),  # no dotted key reaches it
    ],
)
def test_many_cut_answers_ask_for_more_tokens(cut, decides, expected):
    advice = advise(seen(3e-4, 6e-4, 1e-4, cut_answers=cut, answers_decide=decides))
    found = [one for one in advice if one.rule == "cut_answers"]
    assert [one.changes for one in found] == ([] if expected is None else [expected])
    assert all(f"of 24 answers in {area} were cut" in one.reason for area in cut for one in found)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (seen(3e-4, 6e-4, 1e-4, trials=3), {"search.trials": 8}),
        (seen(3e-4, 6e-4, 1e-4, steps=6, data_limit=48), {"data.limit": 96}),
    ],
)
def test_too_little_asks_for_more(evidence, expected):
    assert {key: value for key, (value, _) in changes(advise(evidence)).items()} == expected


def test_nothing_is_asked_for_only_where_enough_trials_bracket_a_best_that_answers_rightly():
    settled = seen(*(3e-4, 6e-4, 1e-4, 2e-4, 4e-4, 8e-4, 1.2e-4, 1.5e-4))
    assert advise(settled) == []
    for change in ({"ended": 3}, {"none_right": "exact match"}, {"steps": 5}, {"seeds_known": False}):
        assert advise(dataclasses.replace(settled, **change)) != []


def test_every_sentence_is_short():
    for evidence, _ in CASES.values():
        for one in advise(evidence):
            assert one.reason.endswith((".", ")."))
            assert max(len(sentence.split()) for sentence in re.split(r"[.;] ", one.reason)) <= 25, one.reason


def test_a_floor_that_would_lie_above_the_new_peaks_follows_them():
    low = dataclasses.replace(
        seen(6e-5, 5e-5, diverged=[{"peak_lr": 7e-5}, {"peak_lr": 8e-5}], ended=4),
        space={"peak_lr": PEAK, "decay_floor": Span(6e-5, 7e-5, log=False)},
    )
    found = {key: value for key, (value, _) in changes(advise(low)).items()}
    assert found["space.decay_floor.high"] < found["space.peak_lr.high"]


def test_the_suggested_config_is_valid_linked_and_commented(tmp_path, capsys):
    folder, path = write_synthetic_sweep(tmp_path, 14), tmp_path / "next.yaml"
    assert main([str(folder), "--to", str(path)]) == 0
    printed = capsys.readouterr().out
    assert f"python -m sweeps.run {path} --plan" in printed
    assert len(printed.splitlines()) < 30
    assert "  seed: 0 → 1" in printed
    assert main([str(folder), "--full"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(path.read_text())
    text = path.read_text()
    config, before = load_config(path), load_config(folder / "sweep.yaml")
    assert config.name == "synthetic-2"
    assert config.search.warm_start == [str(folder)]
    name, _, own = config.parent.partition("@")
    assert (name, own) == ("synthetic", json.loads((folder / "manifest.json").read_text())["sweep_id"])
    assert config.search.seed_points
    after, old = (dict(_leaves(one)) for one in (yaml.safe_load(text), before.model_dump()))
    changed = {key for key, value in after.items() if value != old.get(key)}
    lines = text.splitlines()
    for key in changed:
        leaf = key.rpartition(".")[2]
        at = next(number for number, line in enumerate(lines) if line.strip().startswith(f"{leaf}:"))
        assert lines[at - 1].strip().startswith("#"), key
    assert main([str(folder), "--to", str(path)]) == 2
    assert "must not exist yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("truth", "moved"),
    [
        (Truth(best_peak_lr=6e-3, diverges_above=1.0), {"space.peak_lr.high": "up"}),
        (Truth(best_peak_lr=1.2e-5), {"space.peak_lr.low": "down"}),
        (Truth(best_peak_lr=4e-4, diverges_above=6e-4), {"space.peak_lr.high": "down"}),
        (Truth(best_peak_lr=4e-4, falls_to_the_end=True), {"data.limit": "up"}),
        (Truth(flat=True, diverges_above=1.0), {"search.trials": "down"}),
    ],
    ids=["optimum above the range", "optimum below the range", "too high", "too little data", "flat"],
)
def test_a_planted_sweep_moves_the_right_value_and_the_next_one_passes_the_pre_flight(tmp_path, truth, moved):
    folder = write_synthetic_sweep(tmp_path, 16, "planted", truth=truth)
    if truth.flat:  # that nothing matters can only be known with the spread between seeds
        state_seed_sd(folder, 0.02)
    path = tmp_path / "next.yaml"
    path.write_text(suggest(folder).text)
    found = changes_of_sweeps(*(yaml.safe_load(file.read_text()) for file in (folder / "sweep.yaml", path)))
    found.pop("confirm.budget", None)  # ties ask for replicates, whatever else was planted
    assert found.pop("seed") == (0, 1)  # no trial of the first is trained again
    ways = {key: "up" if float(new) > float(old) else "down" for key, (old, new) in found.items()}
    assert ways == moved
    assert run_sweep([str(path), "--plan"]) == 0


def test_a_measured_spread_between_seeds_goes_on_to_the_next_sweep(confirmed):
    def stated(folder):
        return "seed_sd" in yaml.safe_load(suggest(folder).text).get("confirm", {})

    board = leaderboard(confirmed)["separation"]
    assert board["seed_sd_source"] == "replicates"
    assert board["seed_sd_unblocked_df"] == 2, "two settings, two seeds"
    assert not stated(confirmed), "two degrees of freedom are too few to be taken as known"
    with (confirmed / "trials.jsonl").open("a") as file:
        for line in (confirmed / "trials.jsonl").read_text().splitlines():
            record = json.loads(line)
            if record["kind"] == "replicate" and record["seed"] == 1:
                copied = confirmed / "trials" / f"{record['replicate_of']}-s3"
                shutil.copytree(confirmed / "trials" / record["trial_id"], copied)
                file.write(json.dumps({**record, "trial_id": copied.name, "seed": 3}) + "\n")
    board = leaderboard(confirmed)["separation"]
    assert board["seed_sd_unblocked_df"] == 4
    assert yaml.safe_load(suggest(confirmed).text)["confirm"]["seed_sd"] == pytest.approx(
        board["seed_sd_unblocked"], rel=0.01
    )


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("demo", "demo-2"),
        ("demo-9", "demo-10"),
        ("a-b", "a-b-2"),
        ("my sweep", "my-sweep-2"),  # a folder can be renamed to anything
        ("räum [v2] k=1", "r-um-v2-k-2"),
        ("ü", "sweep-2"),
        ("x" * 255, "x" * 80 + "-2"),
    ],
)
def test_names_count_on_and_keep_the_rules_for_names(name, following):
    assert next_name(name) == following
