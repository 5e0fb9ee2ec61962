"""Two sweeps' winners: a difference that seeds could make is no progress; other held-out data is no comparison."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from analysis.compare.__main__ import difference_words, main
from analysis.compare.compare import compare, incomparable, read_entry
from analysis.compare.data_lines import data_words
from analysis.records.lineage import Kin, changes, parent_of, tree
from analysis.stats.bootstrap import LEVEL, Bootstrap, make_design
from analysis.stats.sweep_difference import Winner, difference
from tests.unit.analysis.synthetic_sweep import Truth, state_seed_sd, write_synthetic_sweep

WEIGHTS = {"a": 1.0, "b": 3.0}
KEYS = [(area, f"{area}{k}") for area in WEIGHTS for k in range(40)]


def winner(losses, seed_sd=0.0, seed_df=math.inf):
    nll = dict(zip(KEYS, losses.tolist(), strict=True))
    return Winner(nll, {key: key[1] for key in KEYS}, seed_sd, seed_df)


@pytest.fixture
def losses():
    rng = np.random.default_rng(3)
    first = rng.normal(2.0, 1.0, len(KEYS))
    return first, first - 0.05 + rng.normal(0.0, 0.05, len(KEYS))


def test_the_difference_is_the_areas_weighted_mean_and_without_seed_variance_the_interval_is_that_of_the_items(losses):
    first, second = losses
    found = difference(winner(first), winner(second), WEIGHTS)
    by_area = {"a": (second - first)[:40].mean(), "b": (second - first)[40:].mean()}
    assert found.areas == pytest.approx(by_area)
    assert found.value == pytest.approx((by_area["a"] + 3 * by_area["b"]) / 4)
    assert found.items == 80
    design = make_design([area for area, _ in KEYS], [name for _, name in KEYS], WEIGHTS)
    error = float(np.std(Bootstrap(design).objective((second - first)[:, None]), ddof=1))
    assert found.high - found.value == pytest.approx(scipy.stats.t.ppf((1 + LEVEL) / 2, 78) * error)
    assert found.verdict == "better"


def test_a_difference_that_seeds_could_make_decides_nothing_and_few_degrees_of_freedom_widen_the_interval(losses):
    first, second = losses
    found = difference(winner(first, 0.03), winner(second, 0.03), WEIGHTS)
    assert found.verdict == "not significantly different"
    items = difference(winner(first), winner(second), WEIGHTS)
    assert found.high - found.low > 2 * 1.96 * math.hypot(0.03, 0.03) > items.high - items.low
    assert difference(winner(first, 0.03, 2.0), winner(second, 0.03, 2.0), WEIGHTS).high > found.high


def test_without_the_spread_between_seeds_nothing_is_claimed(losses):
    first, second = losses
    found = difference(winner(first, None, 0.0), winner(second, 0.01), WEIGHTS)
    assert (found.low, found.high, found.verdict) == (None, None, "not significantly different")


def test_swapping_the_two_mirrors_the_interval(losses):
    first, second = (winner(part, 0.01) for part in losses)
    there, back = difference(first, second, WEIGHTS), difference(second, first, WEIGHTS)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert (there.verdict, back.verdict) == ("better", "worse")


def test_other_items_are_refused(losses):
    first = winner(losses[0])
    fewer = Winner(dict(list(first.values.items())[1:]), first.groups, 0.0, math.inf)
    with pytest.raises(ValueError, match="1 items were scored in one sweep only"):
        difference(first, fewer, WEIGHTS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A sweep, one after it with a worse truth, and one on fewer items; the second is the first's child."""
    place = tmp_path_factory.mktemp("compare")
    first = write_synthetic_sweep(place, 5, "one")
    second = write_synthetic_sweep(place, 5, "two", truth=Truth(best_peak_lr=8e-3), parent=str(first))
    for folder in (first, second):
        state_seed_sd(folder, 0.01)
    return [first, second, write_synthetic_sweep(place, 5, "three", items=12)]


def test_a_worse_sweep_is_called_worse_and_fewer_items_are_no_comparison(folders):
    found = compare([read_entry(folder) for folder in folders])
    worse, other = found["differences"]
    assert worse["verdict"] == "worse"
    sentences = list(difference_words(worse))
    assert sentences[0] == "The best of two is worse than the best of one."
    assert sentences[1].startswith("Difference in held-out loss (two − one): +")
    assert "scored on different items" in other["incomparable"]
    assert [one["name"] for one in found["sweeps"]] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("data", "manifest"),
    [
        ({"template": "{prompt}{response}"}, {}),
        ({"template_args": {"a": 1}}, {}),
        ({}, {"chat_template_sha256": "f00"}),
    ],
)
def test_other_templates_are_no_comparison_of_losses(folders, data, manifest):
    first, second = (read_entry(folder) for folder in folders[:2])
    second.sweep.config["data"] = {**second.sweep.config["data"], **data}
    second.manifest.update(manifest)
    assert incomparable(first, second).startswith("their samples are rendered by other templates")


def test_another_file_is_no_comparison(folders):
    first, second = (read_entry(folder) for folder in folders[:2])
    assert incomparable(first, second) is None
    second.manifest["data_sha256"]["tables"] = "0" * 64
    assert incomparable(first, second) == "area tables is another file (its sha256 differs)"
    del second.manifest["data_sha256"]["tables"]
    assert incomparable(first, second) == "the manifest of two has no hash of area tables"


def test_the_lineage_is_a_tree(folders):
    family = [read_entry(folder).kin() for folder in folders]
    lines = list(tree(family))
    assert [line.split(":")[0] for line in lines] == ["one", "└─ two", "three"]
    assert lines[1].endswith("; changed: nothing")
    assert f"(from {folders[0]})" in next(tree(family[1:]))


def kin(name, parent=None, **space):
    return Kin(Path(f"/sweeps/{name}"), name, f"{hash(name) % 16**12:012x}", parent, {"name": name, "space": space})


def test_an_id_finds_a_parent_that_was_moved_and_the_tree_says_what_each_changed():
    first = kin("a", high="1e-3", low=1)
    second = kin("b", {"name": "a", "id": first.id, "folder": "/gone/a"}, high=2e-3, low=1.0)
    third = kin("c", {"name": "b", "id": second.id, "folder": None}, **{f"key{i}": i for i in range(5)})
    other = kin("d", {"name": "z", "id": "0" * 12, "folder": None})
    assert list(tree([third, other, second, first])) == [
        f"d:  (from z@{'0' * 12})",
        "a: ",
        "└─ b: ; changed: space.high 0.001 → 0.002",
        "   └─ c: ; changed: space.high 0.002 → None, space.low 1.0 → None, space.key0 None → 0, space.key1 None → 1, "
        "and 3 more",
    ]


def test_names_and_places_are_no_changes():
    before = {"name": "a", "parent": None, "search": {"warm_start": [], "trials": 4}}
    after = {"name": "b", "parent": "a@0", "search": {"warm_start": ["a"], "trials": 8}}
    assert changes(before, after) == {"search.trials": (4, 8)}


@pytest.mark.parametrize(
    ("config", "manifest", "expected"),
    [
        ({}, {}, None),
        ({"parent": "a@0123456789ab"}, {}, {"name": "a", "id": "0123456789ab", "folder": None}),
        (
            {"parent": "b"},
            {"parent": {"name": "b", "id": None, "folder": "/b"}},
            {"name": "b", "id": None, "folder": "/b"},
        ),
        ({"search": {"warm_start": ["/x/old", "/x/older"]}}, {}, {"name": "old", "id": None, "folder": "/x/old"}),
    ],
    ids=["none", "by the config", "by the manifest", "by its warm start, before there were parents"],
)
def test_whose_child_a_sweep_is(config, manifest, expected):
    assert parent_of(config, manifest) == expected


def test_the_command_prints_a_table_or_json(folders, capsys):
    first, second = map(str, folders[:2])
    assert main([first, second]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Same settings, held-out loss")
    assert shown.index("Same settings") < shown.index("Best of each sweep") < shown.index("The best of two is worse")
    assert "└─ two" in shown
    assert "Training data: the same 208 samples in one and two." in shown
    assert max(map(len, shown.partition("lineage")[0].splitlines())) <= 80
    assert main([first, second, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"][0]["verdict"] == "worse"
    assert main([first, first]) == 2
    assert main([first]) == 2
    assert capsys.readouterr().err.count("DIR: must be two different sweeps or more") == 2


def test_the_same_setting_is_compared_with_itself_before_the_winners(folders):
    first, second = (read_entry(folder) for folder in folders[:2])
    found = compare([first, second])["differences"][0]
    assert [pair["params"]["peak_lr"] for pair in found["shared"]] == sorted(
        row["params"]["peak_lr"] for row in first.board["rows"] if row["rank"]
    )
    for pair in found["shared"]:
        scores = [entry.board["rows"] for entry in (first, second)]
        own = [{row["trial_id"]: row for row in rows} for rows in scores]
        losses = [rows[one["trial_id"]]["objective"] for rows, one in zip(own, pair["trials"], strict=True)]
        assert pair["scores"] == pytest.approx(losses)
        assert pair["value"] == pytest.approx(losses[1] - losses[0])


def test_samples_that_came_went_and_changed_are_named():
    found = {"samples": [3, 4], "added": ["d", "e"], "removed": ["a"], "changed": ["b"]}
    assert data_words(found, "one", "two") == (
        "Training data, one to two: 3 → 4 samples; 2 added (d, e), 1 removed (a), 1 changed (b)."
    )


def test_more_trials_are_better_by_chance(folders):
    found = compare([read_entry(folder) for folder in folders[:2]])["differences"][0]
    assert not any("by chance" in sentence for sentence in difference_words(found))
    assert any("5 against 16 trials" in sentence for sentence in difference_words({**found, "trials": [5, 16]}))
