"""Settings that train the same are one, and no search trains anything twice to the bit."""

import pytest

from sweeps.search.distinct import Settings, distinct_words
from sweeps.search.optuna_search import Beginning, Launch, SweepSearch

ALL = ["space.peak_lr=5e-4", "space.warmup_fraction=0.1", "space.decay_floor=4e-5"]
LRS = ["space.peak_lr=5e-4", "space.decay_floor=4e-5"]
WARMUP = "space.warmup_fraction={low: 0.0, high: 0.5}"


@pytest.mark.parametrize(
    ("overrides", "samples", "distinct"),
    [
        (ALL, 64, 1),
        ([], 64, None),  # a range of LRs
        ([*LRS, "training.batch_size=8", WARMUP], 64, 4),  # 0 and 1 of 8 steps are one schedule; 2, 3, 4
        ([*LRS, "training.batch_size=16", WARMUP], 64, 2),  # of 4 steps: 0 or 1, 2
        ([*LRS, "training.batch_size=8", "space.warmup_fraction={low: 0.03, high: 0.1}"], 64, 1),  # always 0 or 1 step
        ([*LRS, "training.batch_size=1", WARMUP], 640, None),  # more steps than trials
        ([*ALL, "space.lora_r={low: 1, high: 8}"], 64, 8),
        ([*ALL, "space.batch_size={low: 60, high: 70}"], 64, 5),  # from 64 on the epoch is one step of all samples
        ([*ALL, "space.batch_size={low: 64, high: 512}"], 64, 1),
        ([*ALL, "space.schedule_shape={choices: [linear, cosine]}"], 64, 2),
        ([*ALL, "space.schedule_shape={choices: [linear, cosine]}"], 16, 1),  # two steps: the peak and the floor
        ([*ALL, "space.schedule_shape={choices: [linear, wsd]}", "space.decay_fraction={low: 0.1, high: 0.5}"], 64, 5),
        ([*ALL[1:], "training.batch_size=64"], 64, 1),  # one step, at the floor: no peak is reached
        (["training.batch_size=64", "space.decay_floor={low: 1e-5, high: 4e-5}"], 64, None),
        ([*ALL, "space.weight_decay={low: 0.0, high: 0.1}"], 64, None),
        ([*ALL, "model.method=full", "space.batch_size={low: 4, high: 6}"], 64, 3),
        # Floors above 0.8 of the peak become 0.8 of it.
        ([*ALL[:2], "space.decay_floor={low: 4.5e-4, high: 5e-4}"], 64, 1),
    ],
)
def test_settings_are_counted_by_what_they_train(load, overrides, samples, distinct):
    found = Settings(load(*overrides), samples).all(enough=12)
    assert (None if found is None else len(found)) == distinct


def test_what_decides_no_number_is_the_same_and_what_decides_one_is_not(load):
    settings = Settings(load("space.lora_r={low: 1, high: 8}", "training.batch_size=8"), 64)
    base = {"peak_lr": 5e-4, "warmup_fraction": 0.25, "decay_floor": 4e-5, "lora_r": 4}
    same = {"warmup_fraction": 0.26}
    for change in ({"peak_lr": 5.1e-4}, {"warmup_fraction": 0.4}, {"decay_floor": 3e-5}, {"lora_r": 5}):
        assert settings.identity({**base, **change}) != settings.identity(base)
    assert settings.identity({**base, **same}) == settings.identity(base)


@pytest.mark.parametrize("steps", [1000, 1001])
def test_long_epochs_are_told_apart_like_short_ones(load, steps):
    settings = Settings(load("training.batch_size=1", "training.schedule.shape=wsd"), steps)
    base = {"peak_lr": 5e-4, "warmup_fraction": 0.1, "decay_floor": 4e-5, "decay_fraction": 0.2}
    changes = [{"peak_lr": 6e-4}, {"warmup_fraction": 0.2}, {"decay_floor": 3e-5}, {"decay_fraction": 0.3}]
    assert len({settings.identity({**base, **change}) for change in ({}, *changes)}) == 5
    assert settings.identity({**base, "warmup_fraction": 0.1001}) == settings.identity(base)
    none, one = ({**base, "warmup_fraction": part / steps} for part in (0, 1))
    assert settings.identity(none) == settings.identity(one)


def run(config, samples, points=(), beginning=None, most=40):
    """Runs a search whose trials all complete at once; returns their specs."""
    config.folder.mkdir(exist_ok=True)
    specs = []
    begin = beginning or Beginning(points)
    begin = Beginning(**{**vars(begin), "settings": Settings(config, samples)})
    search = SweepSearch(config, 3.0, Launch({}, specs.append), begin)
    for name in map(str, range(most)):
        if search.suggest(name) == "FINISHED":
            break
        end = {"state": "complete", "objective": 2.0 + 0.01 * len(specs), "step": 8, "fraction": 1.0}
        search.on_trial_complete(name, end)
    search.close()
    return specs


def keys(config, samples, specs):
    return [(Settings(config, samples).identity({**spec.params, **(spec.drawn or {})}), spec.seed) for spec in specs]


@pytest.mark.parametrize(
    ("overrides", "samples", "trained"),
    [
        ([*ALL, "search.trials=3"], 64, 3),  # one setting, under three of four seeds
        ([*ALL, "search.trials=12"], 64, 4),
        ([*ALL, "search.trials=3", "search.seeds=1"], 64, 1),
        ([*ALL, "search.trials=12", "search.seeds=1", "space.lora_r={low: 1, high: 8}"], 64, 8),
        ([*ALL, "search.trials=12", "search.seeds=2", "space.lora_r={low: 1, high: 3}"], 64, 6),
        ([*LRS, "search.trials=12", "search.seeds=2", WARMUP, "training.batch_size=16"], 64, 4),
        *[
            # Warm-up alone distinguishes cells or draws here, and rounds to the same steps.
            ([f"search.sampler={name}", "search.trials=12", "search.seeds=1", "training.batch_size=16"], 64, 12)
            for name in ("grid", "random", "tpe")
        ],
    ],
)
def test_nothing_is_trained_twice_to_the_bit(load, overrides, samples, trained):
    config = load(*overrides)
    point = {"peak_lr": 5e-4, "warmup_fraction": 0.1, "decay_floor": 4e-5}
    specs = run(config, samples, [{name: point[name] for name in point if name in overrides_of(config)}])
    assert len(specs) == trained
    assert len(set(keys(config, samples, specs))) == trained
    assert [spec.trial_id for spec in specs] == [f"t{number:04d}" for number in range(1, trained + 1)]


def overrides_of(config):
    return [name for name in config.space.items() if name not in config.space.fixed()]


def test_a_resumed_search_of_few_settings_goes_on_with_those_that_are_left_and_then_has_none(load):
    config = load(*ALL, "search.trials=12", "search.seeds=2", "space.lora_r={low: 1, high: 3}")
    first = run(config, 64, most=4)
    past = Beginning(submitted=4, tried=first, left=8)
    rest = run(config, 64, beginning=past)
    assert len(first) + len(rest) == 6
    assert len(set(keys(config, 64, [*first, *rest]))) == 6
    assert run(config, 64, beginning=Beginning(submitted=6, tried=[*first, *rest], left=6)) == []


def test_points_that_repeat_each_other_are_tried_under_each_seed_and_no_more(load):
    config = load("search.trials=6", "search.seeds=2", "search.sampler=random")
    point = {"peak_lr": 5e-4, "warmup_fraction": 0.1, "decay_floor": 4e-5}
    specs = run(config, 64, [point, point, point])
    assert [spec.params["peak_lr"] == 5e-4 for spec in specs] == [True, True, False, False, False, False]
    assert len(set(keys(config, 64, specs))) == 6


@pytest.mark.parametrize(
    ("settings", "trials", "seeds", "words"),
    [
        (1, 3, 4, "the space has 1 distinct setting for 3 trials: they are trained again under other seeds, of 4"),
        (
            *(2, 12, 4),
            "the space has 2 distinct settings for 12 trials: each under 4 seeds, the search ends after 8, for the "
            "rest would repeat them to the bit",
        ),
        (
            *(1, 3, 1),
            "the space has 1 distinct setting for 3 trials: the search ends after 1, for the rest would repeat them to "
            "the bit",
        ),
    ],
)
def test_the_words(settings, trials, seeds, words):
    assert distinct_words(settings, trials, seeds) == words
