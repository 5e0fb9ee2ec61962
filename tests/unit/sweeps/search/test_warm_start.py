"""Which trials of earlier sweeps the sampler learns from, and what is said of the others."""

import json

import optuna
import pytest
from optuna.trial import TrialState

from sweeps.config.sweep_config import dump_config
from sweeps.ledger.ledger import Ledger
from sweeps.search.samplers import make_sampler
from sweeps.search.search_space import WARM_START, distributions
from sweeps.search.warm_start import check_warm_start, read_warm_start
from trainables.errors import UserError, UserErrors

BASE = {"home": {"nll": 3.0}}
HASHES = {"model_sha256": {"model.safetensors": "aa"}, "data_sha256": {"train": "bb", "home": "cc"}}


@pytest.fixture
def make_here(load):
    """A sweep that starts from `first`, as far as it is written when the search begins."""

    def make(*overrides):
        config = load("name=second", f"search.warm_start=[{load('name=first').folder}]", *overrides)
        config.folder.mkdir(exist_ok=True)
        (config.folder / "manifest.json").write_text(json.dumps(HASHES))
        return config

    return make


@pytest.fixture
def earlier(load):
    """Writes the finished sweep `first`."""

    def write(*overrides, records=(), hashes=HASHES, base=BASE):
        config = load("name=first", *overrides)
        config.folder.mkdir(exist_ok=True)
        (config.folder / "sweep.yaml").write_text(dump_config(config))
        (config.folder / "manifest.json").write_text(json.dumps(hashes))
        (config.folder / "baseline.json").write_text(json.dumps({"areas": base}))
        (config.folder / "trials.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return config

    return write


def record(number, state="complete", nll=2.0, drawn=None, kind="search", **params):
    return {
        "trial_id": f"t{number:04d}",
        "state": state,
        "kind": kind,
        "replicate_of": "t0001" if kind == "replicate" else None,
        "params": {"peak_lr": 1e-4, "warmup_fraction": 0.05, "decay_floor": 4e-5, **params},
        "drawn": drawn,
        "checkpoints": [{"step": 8, "path": "p", "areas": {"home": {"nll": nll}}}],
    }


def test_finished_trials_are_added_with_the_values_that_optuna_would_get(make_here, earlier):
    records = [
        record(1, nll=2.0),
        record(2, "diverged", nll=9.0, peak_lr=9e-4),
        record(3, "pruned", nll=1.0, peak_lr=6e-5) | {"predicted": 2.6},
        record(4, "failed", peak_lr=2e-4),
        record(5, nll=2.1, kind="replicate"),
        record(6, nll=1.0, kind="subset"),  # trained on a part of the set: another objective
    ]
    earlier(records=records)
    config = make_here()
    (source,) = read_warm_start(config, BASE)
    assert source.words() == f"warm start: {source.folder}: 4 trials added (0 outside this space, 1 failed)"
    assert [trial.value for trial in source.trials] == [2.0, 3.0, 2.6, 2.1]
    assert [trial.user_attrs["trial_id"] for trial in source.trials] == [
        "first/t0001", "first/t0002", "first/t0003", "first/t0005",
    ]  # fmt: skip
    assert all(trial.state == TrialState.COMPLETE for trial in source.trials)
    assert all(trial.user_attrs[WARM_START] == source.folder for trial in source.trials)
    assert json.loads(json.dumps(source.summary()))["trials"][0] == "first/t0001"


def test_the_model_starts_at_once_and_may_come_back_to_their_settings(make_here, earlier):
    earlier(records=[record(n, nll=2.0 + n, peak_lr=n * 1e-4) for n in range(1, 6)])
    config = make_here("search.startup_trials=4")
    study = optuna.create_study(sampler=make_sampler(config, 0))
    study.add_trials(read_warm_start(config, BASE)[0].trials)
    study.sampler.quasi_random.sample_relative = None  # not asked: there are enough finished trials
    study.sampler.model.sample_relative = lambda *_: {"peak_lr": 1e-4, "warmup_fraction": 0.05}
    study.ask(fixed_distributions=distributions(config))
    assert study.trials[-1].params == {"peak_lr": 1e-4, "warmup_fraction": 0.05}


@pytest.mark.parametrize(
    ("hashes", "overrides", "base", "why"),
    [
        ({"model_sha256": {"model.safetensors": "x"}}, [], BASE, "model.sha256 is aa here and x there"),
        ({"model_sha256": {}}, [], BASE, "model.sha256 is aa here and unknown there"),
        ({"data_sha256": {"train": "x", "home": "cc"}}, [], BASE, "data.train.sha256 is bb here and x there"),
        ({"data_sha256": {"home": "cc"}}, [], BASE, "data.train.sha256 is bb here and unknown there"),
        ({"data_sha256": {"train": "bb", "home": "x"}}, [], BASE, "heldout.areas.home.sha256 is cc here and x there"),
        ({"data_sha256": {"train": "bb"}}, [], {}, "heldout.areas.home.sha256 is cc here and unknown there"),
        ({}, ["model.method=full"], BASE, "model.method is lora here and full there"),
        ({}, ["model.lora.target_modules=[q_proj]"], BASE, "model.lora.target_modules is all-linear here"),
        ({}, ["data.limit=9"], BASE, "data.limit is None here and 9 there"),
        ({}, ["heldout.areas.home.limit=9"], BASE, "heldout.areas.home.limit is None here and 9 there"),
        ({}, ["training.schedule.shape=cosine"], BASE, "training.schedule.shape is linear here and cosine there"),
        ({}, ["resources.workers_per_lane=2"], BASE, "resources.workers_per_lane is 1 here and 2 there"),
        ({}, [], {"home": {"nll": 3.1}}, "the base model scores 3.0000 here and 3.1000 there"),
    ],
)
def test_what_does_not_match_is_said_and_gives_nothing(make_here, earlier, hashes, overrides, base, why):
    earlier(*overrides, records=[record(1)], hashes=HASHES | hashes, base=base)
    (source,) = read_warm_start(make_here(), BASE)
    assert source.trials == []
    assert why in source.words()
    assert "does not match" in source.words()


@pytest.mark.parametrize("hashes", [{"model_sha256": {}}, {"data_sha256": {"home": "cc"}}])
def test_hashes_that_both_sweeps_lack_are_no_agreement(make_here, earlier, hashes):
    earlier(records=[record(1)], hashes=HASHES | hashes)
    config = make_here()
    (config.folder / "manifest.json").write_text(json.dumps(HASHES | hashes))
    assert "sha256 is unknown here and unknown there" in read_warm_start(config, BASE)[0].words()


def test_the_ledger_is_believed_before_the_other_file_and_shards_of_the_model_may_have_other_names(make_here, earlier):
    config = earlier(records=[record(1)], hashes=HASHES | {"model_sha256": {"weights.safetensors": "aa"}})
    Ledger(config.folder).append("trial_ended", trial=record(1, nll=1.25))
    assert [trial.value for trial in read_warm_start(make_here(), BASE)[0].trials] == [1.25]


@pytest.mark.parametrize(
    ("there", "here", "params", "inside"),
    [
        ([], [], {}, True),
        ([], [], {"peak_lr": 5e-5}, True),
        ([], [], {"peak_lr": 4.9e-5}, False),
        ([], [], {"decay_floor": 4.1e-5}, False),
        (["training.batch_size=4"], [], {}, False),
        (["training.batch_size=4"], ["space.batch_size={low: 2, high: 8}"], {}, True),
        (["training.batch_size=16"], ["space.batch_size={low: 2, high: 8}"], {}, False),
        (["space.lora_r={low: 4, high: 32}"], [], {"lora_r": 16.0}, True),
        (["space.lora_r={low: 4, high: 32}"], [], {"lora_r": 8.0}, False),
        (["model.lora.alpha=8"], [], {}, False),
        (["training.weight_decay=0.1"], [], {}, False),
        ([], ["space.schedule_shape={choices: [linear, wsd]}"], {}, True),
        ([], ["space.schedule_shape={choices: [cosine, wsd]}"], {}, False),
        (["training.schedule.shape=cosine"], ["space.schedule_shape={choices: [cosine, wsd]}"], {}, True),
        (["space.schedule_shape={choices: [linear, wsd]}"], [], {"schedule_shape": "wsd"}, False),
        (["space.schedule_shape={choices: [linear, wsd]}"], [], {"schedule_shape": "linear"}, True),
        (["space.schedule_shape=linear"], ["training.schedule.shape=linear"], {"schedule_shape": "linear"}, True),
        (["model.lora.target_modules=[q]"], ["space.target_modules={choices: [[q], [v]]}"], {}, True),
        (["space.target_modules={choices: [[q, v], [v]]}"], [], {"target_modules": "q,v"}, False),
        (["training.schedule.decay_fraction=0.3"], [], {}, True),  # which does nothing beside linear
        (["training.schedule={shape: wsd, decay_fraction: 0.3}"], ["training.schedule.shape=wsd"], {}, False),
    ],
)
def test_trials_that_this_sweep_could_not_draw_are_counted(make_here, earlier, there, here, params, inside):
    earlier(*there, records=[record(1, **params)])
    (source,) = read_warm_start(make_here(*here), BASE)
    assert (len(source.trials), source.outside) == (int(inside), int(not inside))


def test_the_value_as_drawn_counts_not_as_capped(make_here, earlier):
    space = "space.decay_floor={low: 4e-5, high: 5e-5}"
    earlier(space, records=[record(1, drawn={"decay_floor": 4.5e-5}, peak_lr=5.2e-5)])
    (source,) = read_warm_start(make_here(space), BASE)
    assert source.trials[0].params["decay_floor"] == 4.5e-5


def test_a_sweep_of_another_version_is_named_not_read_and_a_broken_file_is_the_users_error(make_here, earlier):
    folder = earlier(records=[record(1)]).folder
    whole = (folder / "sweep.yaml").read_text()
    (folder / "sweep.yaml").write_text("name: first\nunheard_of: 1\n")
    (source,) = read_warm_start(make_here(), BASE)
    assert "its sweep.yaml can't be read by this version" in source.words()
    (folder / "sweep.yaml").write_text(whole)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json: must be JSON"):
        read_warm_start(make_here(), BASE)


def test_folders_that_hold_no_other_sweep_are_mistakes_of_the_config(make_here, earlier, load):
    config = make_here()
    (mistake,) = check_warm_start(config)
    assert mistake.where == "search.warm_start[0]"
    assert "sweep.yaml, manifest.json, baseline.json, trials.jsonl" in str(mistake)
    with pytest.raises(UserErrors):
        read_warm_start(config, BASE)
    assert check_warm_start(load()) == []
    folder = earlier(records=[record(1)]).folder
    (mistake,) = check_warm_start(load("name=first", f"search.warm_start=[{folder}]"))
    assert "must be another sweep's folder" in str(mistake)
