"""The posed sweeps of `benchmarks.confirm.default_path`: luck as recorded, claims as the leaderboard makes them."""

import json

import numpy as np
import pytest

from analysis.rank.leaderboard import leaderboard
from benchmarks.confirm.combination import TRIALS, WAYS, compare
from benchmarks.confirm.default_path import RECORDINGS, contenders, planted, told_apart
from benchmarks.confirm.posed_sweep import ROUNDS, STEPS, World
from benchmarks.confirm.recorded_luck import RecordedLuck


@pytest.fixture(scope="module", params=RECORDINGS, ids=lambda path: path.stem)
def luck(request):
    return RecordedLuck.read(request.param)


def test_new_seeds_have_the_recorded_ones_spread_at_every_lr(luck):
    draw = np.random.default_rng(0)
    seeds = [luck.new_seed(draw) for _ in range(2000)]
    for decades in (luck.decades[0], luck.decades[-1]):
        values = [luck.objective(luck.luck_of(decades, seed)) for seed in seeds]
        assert np.std(values) == pytest.approx(luck.sd(decades), rel=0.06)
        assert np.mean(values) == pytest.approx(0.0, abs=0.1 * luck.sd(decades))


def test_between_lrs_worth_lies_between(luck):
    low, high = (luck.worth[k, -1] for k in (0, 1))
    assert luck.worth_of(luck.decades[:2].mean()) == pytest.approx((low + high) / 2)
    assert luck.worth_of(luck.decades[1]) == pytest.approx(high)
    assert len(luck.items(np.random.default_rng(0), 64)) == 64


def test_what_is_far_worse_is_called_worse_and_equals_are_not(luck):
    world = World(luck, 16, 64, 4, 0)
    assert world.rank(world.search()).worse == ()
    worst = int(np.argmax(world.decades))
    world.worth = 100.0 * (world.decades - world.decades.min()) ** 2
    board = world.rank(world.search())
    assert f"t{worst + 1:04d}" in board.worse
    assert len(set(contenders(board, world.peak_lrs))) == 2


def write_items(folder, name, step, losses, areas):
    file = folder / "trials" / name / "heldout.jsonl"
    file.parent.mkdir(parents=True)
    items = [
        {"step": step, "area": f"area{area}", "id": str(k), "nll": loss, "tokens": 4}
        for k, (loss, area) in enumerate(zip(losses.tolist(), areas.tolist(), strict=True))
    ]
    file.write_text("".join(json.dumps(item) + "\n" for item in items))


@pytest.mark.parametrize(("settings", "steep"), [(4, 0.0), (7, 0.0), (7, 2.0)])
def test_a_posed_sweep_is_ranked_as_the_leaderboard_ranks_its_folder(luck, tmp_path, settings, steep):
    world = World(luck, settings, 64, 4, 1)
    world.worth = steep * np.abs(world.decades - world.decades.min())
    trials = world.search()
    trials += [
        world.trial(int(name[1:]) - 1, 4 + seed, replicate=True)
        for name in contenders(world.rank(trials), world.peak_lrs)
        for seed in range(ROUNDS)
    ]
    areas, base = luck.area_of[world.items], luck.base[world.items]
    names = [f"area{area}" for area in np.unique(areas)]
    heldout = {"areas": {name: {"path": name} for name in names}}
    search = {"search": {"trials": 12}, "confirm": {"budget": "auto", "looks": "auto"}}
    (tmp_path / "sweep.yaml").write_text(json.dumps({"name": "s", "objective": "s", "heldout": heldout, **search}))
    (tmp_path / "baseline.json").write_text(json.dumps({"areas": {name: {"nll": 3.0} for name in names}}))
    write_items(tmp_path, "baseline", 0, base, areas)
    for trial in trials:
        write_items(tmp_path, trial.trial_id, STEPS, trial.losses, areas)
    ended = [
        {
            "trial_id": trial.trial_id,
            "state": "complete",
            "kind": "replicate" if trial.replicate_of else "search",
            "replicate_of": trial.replicate_of,
            "seed": trial.seed,
            "params": {"peak_lr": 10**trial.decades},
            "checkpoints": [{"step": STEPS, "path": None}],
        }
        for trial in trials
    ]
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in ended))
    board, posed = leaderboard(tmp_path), world.rank(trials)
    assert posed.named == board["winner_setting"]
    assert list(posed.ranked) == [row["trial_id"] for row in board["rows"]]
    assert sorted(posed.worse) == sorted(row["trial_id"] for row in board["rows"] if row["setting"]["separated"])
    assert bool(posed.worse) == (steep > 0)


def test_gaps_are_counted_in_sds_of_both_settings():
    worth, sds = np.array([0.0, 2.0, 4.0, 9.0]), np.ones(4)
    assert told_apart(worth, sds, 0, {2, 3}) == [[0, 1], [1, 1]]


def test_a_planted_gap_is_named_and_nothing_is_claimed_by_five_trials(luck):
    found = planted(luck, 5)
    assert found["named"]["found"] >= 4
    assert (found["at_least_four_of_five"]["found"], found["sweeps_that_claim"]["found"]) == (1, 0)


def test_a_paused_sweep_trains_five_of_twelve_to_the_end(luck):
    found = compare(luck, 0, contenders)
    assert set(found) == set(WAYS)
    assert found["paused"].executed == pytest.approx((5 + 7 * 0.25) / TRIALS)
    assert found["not paused"].executed == 1.0
    assert all(one.regret >= -1e-9 for one in found.values())
