"""Naming and claims by all trials together: the setting table of sweeps with and without rotated seeds."""

import csv
import io
import json

import numpy as np
import pytest

from analysis.output.leaderboard_csv import as_csv
from analysis.rank.leaderboard import leaderboard


def lines(step, nll):
    nothing = {"exact_match": None, "f1": None, "token_f1": None, "answer": None}
    items = (
        {"step": step, "area": "home", "id": str(k), "nll": float(v), "tokens": 3, "group": str(k)} | nothing
        for k, v in enumerate(nll)
    )
    return "".join(json.dumps(item) + "\n" for item in items)


def sweep(folder, scores, seeds, peaks, params=None, kinds=None):
    """A finished sweep of one area with items of equal loss but for a trial's own score and some spread of items."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    items = draw.normal(0.0, 0.02, 40)
    config = {"name": "s", "heldout": {"areas": {"home": {"path": "x"}}}, "search": {"seed_points": "recommended"}}
    (folder / "sweep.yaml").write_text(json.dumps(config))
    base = {"areas": {"home": {"nll": 3.0, "exact_match": None, "token_f1": None, "items": 40}}}
    (folder / "baseline.json").write_text(json.dumps(base))
    home = folder / "trials" / "baseline"
    home.mkdir(parents=True)
    (home / "heldout.jsonl").write_text(lines(0, 3.0 + items))
    records = []
    for number, (score, seed, peak) in enumerate(zip(scores, seeds, peaks, strict=True), start=1):
        trial_id = f"t{number:04d}"
        kind = (kinds or {}).get(number, {"kind": "search", "replicate_of": None})
        nll = score + items + draw.normal(0.0, 0.002, 40)
        nll += score - nll.mean()
        place = folder / "trials" / trial_id
        place.mkdir(parents=True)
        (place / "heldout.jsonl").write_text(lines(4, nll))
        setting = {"peak_lr": float(peak), "warmup_fraction": 0.05, "decay_floor": 1e-5} | (
            (params or {}).get(number, {})
        )
        areas = {"home": {"nll": float(nll.mean()), "exact_match": None, "token_f1": None, "items": 40}}
        point = {"step": 4, "path": f"trials/{trial_id}/checkpoints/step-4", "areas": areas}
        record = {"trial_id": trial_id, "state": "complete", "seed": int(seed), "params": setting, "drawn": None}
        records.append(record | kind | {"steps": 4, "steps_planned": 4, "checkpoints": [point], "findings": []})
    (folder / "trials.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return leaderboard(folder)


PEAKS = np.geomspace(1e-4, 1e-2, 9)
CURVE = 1.0 + 0.25 * (np.log10(PEAKS) - np.log10(1e-3)) ** 2
ROTATED = [0, 1, 2, 3, 0, 1, 2, 3, 0]


@pytest.mark.parametrize("trials", range(6, 16))
def test_the_curve_goes_through_the_trials_where_all_else_is_fixed(tmp_path, trials):
    peaks = np.geomspace(1e-4, 1e-2, trials)
    board = sweep(tmp_path / "s", 1.0 + 0.3 * np.log10(peaks / 1e-3) ** 2, [k % 4 for k in range(trials)], peaks)
    curve = board["separation"]["model"]["curve"]
    (setting,) = (row["setting"] for row in board["rows"] if row["params"]["peak_lr"] == peaks[0])
    assert curve[0][1:] == pytest.approx([setting["posterior"], setting["posterior_sd"]], rel=1e-6)


def test_a_lucky_trial_off_the_curve_is_not_named(tmp_path):
    scores = CURVE.copy()
    scores[6] -= 0.25 * 0.5**2 + 0.01  # 0.5 decades above the best LR, lowest by luck
    board = sweep(tmp_path / "s", scores, ROTATED, PEAKS)
    lowest = min(board["rows"], key=lambda row: row["objective"])
    assert lowest["trial_id"] == "t0007"
    assert board["winner_setting"] == board["rows"][0]["trial_id"] != "t0007"
    assert board["winner"]["trial_id"] == board["winner_setting"]
    figures = [row["setting"]["posterior"] for row in board["rows"]]
    assert figures == sorted(figures)
    assert all(row["setting"]["posterior_sd"] > 0 for row in board["rows"])
    curve = board["separation"]["model"]["curve"]
    assert (curve[0][0], curve[-1][0]) == pytest.approx((PEAKS[0], PEAKS[-1]))
    for number in (0, 4, 8):  # every fifth point is an LR that was tried
        (setting,) = (row["setting"] for row in board["rows"] if row["params"]["peak_lr"] == PEAKS[number])
        assert curve[5 * number][1:] == pytest.approx([setting["posterior"], setting["posterior_sd"]])
    table = list(csv.DictReader(io.StringIO(as_csv(board))))
    assert [float(line["setting_posterior"]) for line in table] == figures
    assert all(float(line["setting_posterior_sd"]) > 0 for line in table)


@pytest.mark.parametrize(
    ("seeds", "claims", "source"),
    [
        (ROTATED, True, "rotation"),
        ([0, 1, 2] * 3, True, "rotation"),
        ([0, 1] * 4 + [0], False, "unknown"),
        ([0] * 9, False, "unknown"),
    ],
)
def test_differences_are_claimed_from_three_seeds_on(tmp_path, seeds, claims, source):
    draw = np.random.default_rng(3)
    board = sweep(tmp_path / "s", CURVE * 4 + draw.normal(0, 0.002, 9), seeds, PEAKS)
    assert board["separation"]["model"]["claims"] is claims
    assert board["separation"]["seed_sd_source"] == source
    ends = {row["trial_id"]: row["setting"] for row in board["rows"]}
    assert ends["t0001"]["separated"] is ends["t0009"]["separated"] is claims
    assert (ends["t0001"]["behind_interval"] is not None) is claims
    assert (ends["t0001"]["gain_interval"] is not None) is claims
    if not claims:
        assert "How sure: lowest expected held-out loss of 9; seeds not measured" in board["verdict"]
        assert all(row["tied"] for row in board["rows"][1:])


@pytest.mark.parametrize(
    ("kept", "params"),
    [
        (5, None),  # too few trials
        (9, {2: {"batch_size": 16}}),  # more than the LR schedule is searched
    ],
)
def test_without_a_model_the_lowest_score_is_named(tmp_path, kept, params):
    scores = CURVE.copy()
    scores[0] = 0.9
    board = sweep(tmp_path / "s", scores[:kept], ROTATED[:kept], PEAKS[:kept], params)
    assert board["winner_setting"] == "t0001"
    assert board["separation"]["model"] is None
    assert {row["setting"]["posterior"] for row in board["rows"]} == {None}


@pytest.mark.parametrize(("rounds", "decides"), [(2, "posterior"), (3, "objective")])
def test_replicates_count_with_all_trials_and_enough_decide_between_their_settings(tmp_path, rounds, decides):
    """Two rounds of two leave one degree of freedom, three leave two."""
    luck = [0.02, 0.021, 0.0205][:rounds]
    contenders = [4] * rounds + [5] * rounds
    scores = np.concatenate([CURVE, CURVE[contenders] + [*luck, *(-x for x in luck)]])
    kinds = {
        number: {"kind": "replicate", "replicate_of": f"t{setting + 1:04d}"}
        for number, setting in enumerate(contenders, 10)
    }
    seeds = [*ROTATED, *range(4, 4 + rounds), *range(4, 4 + rounds)]
    board = sweep(tmp_path / "s", scores, seeds, np.concatenate([PEAKS, PEAKS[contenders]]), None, kinds)
    assert board["separation"]["model"]["trials"] == 9 + 2 * rounds
    rows = {row["trial_id"]: row["setting"] for row in board["rows"]}
    assert (rows["t0005"]["seeds"], rows["t0005"]["objective"]) == (rounds, pytest.approx(CURVE[4] + 0.0205, abs=1e-6))
    # The gain is always that of the replicates, as the verdict says.
    assert rows["t0005"]["gain"] == pytest.approx(board["baseline"]["objective"] - rows["t0005"]["objective"])
    source, words = {2: ("rotation", "by all trials together"), 3: ("replicates", "over new seeds")}[rounds]
    assert board["separation"]["seed_sd_source"] == source
    assert words in board["verdict"].partition("How sure: ")[2].partition(" Over seeds")[0]
    named, other = sorted(("t0005", "t0006"), key=lambda name: rows[name]["posterior"])
    assert board["winner_setting"] == named
    assert rows[other]["behind"] == pytest.approx(rows[other][decides] - rows[named][decides])


@pytest.mark.parametrize(
    ("first", "worse", "seeds", "outcome", "sentence"),
    [
        (4, 0.0, ROTATED, "best", "nothing beat it, t0001 · 1.0e-3, in 9 trials."),
        (0, 4.0, ROTATED, "beaten", "t0001 · 1.0e-4 is beaten by "),
        (3, 0.0, ROTATED, "enough", "t0001 · 5.6e-4 is enough: the best is ahead by "),
        (0, 4.0, [0] * 9, "unknown", "is not known."),
    ],
)
def test_the_verdict_says_whether_the_recommended_setting_was_enough(tmp_path, first, worse, seeds, outcome, sentence):
    """The first trial is the one with the `first` LR; `worse` stretches the curve."""
    order = [first, *(k for k in range(9) if k != first)]
    depth = worse or 0.04  # a flat curve, whose neighbors of the best differ by less than a hundredth of a nat
    scores = 1.0 + (CURVE - 1.0) * depth + np.random.default_rng(5).normal(0, 1e-4, 9)
    board = sweep(tmp_path / "s", scores[order], seeds, PEAKS[order])
    assert board["recommended"]["outcome"] == outcome
    assert board["recommended"]["worthwhile"] == 0.01
    assert sentence in board["verdict"].partition("Rule of thumb: ")[2]
