"""The base model's losses on the training set: their values, file and reuse, and what a trial records of them."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.unit.trainables.training.helpers import Memory, lane, padded_nll, trial
from trainables.evaluation.base_loss_scoring import compute
from trainables.evaluation.base_losses import FILE, BaseLosses, keep, losses_key, provide
from trainables.evaluation.heldout import item_losses
from trainables.lane.jobs import run_job
from trainables.lane.warm_state import LaneState
from trainables.optim.workers import SOLO, World
from trainables.training.loop import Loop, TrialRun

LOSSES = BaseLosses("key", {"s1": 2.5, "s0": 1.5})


@pytest.fixture(scope="module")
def data(samples):
    return samples(23)


class Share(World):
    """One of several workers; what it gathers is remembered in the place of a process group."""

    def __init__(self, rank, size, gathered):
        object.__setattr__(self, "rank", rank)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "gathered", gathered)

    def together(self, part):
        self.gathered.append(part())
        return self.gathered


@pytest.mark.parametrize("batch_tokens", [64, 100_000])
def test_losses_are_those_of_padded_batches_and_all_logits(base, data, batch_tokens):
    nll = compute(base.untouched(), data, SOLO, batch_tokens)
    sums, counts = padded_nll(base.untouched(), data, range(len(data)))
    expected = {name: total / n for name, total, n in zip(data.ids, sums.tolist(), counts, strict=True)}
    assert list(nll) == data.ids
    assert nll == pytest.approx(expected, abs=1e-5)
    assert list(nll.values()) == pytest.approx([loss.nll for loss in item_losses(base.untouched(), data, 4096)])


@pytest.mark.parametrize(("count", "shares"), [(23, {7, 8}), (2, {0, 1})])
def test_workers_share_the_samples_out(base, samples, count, shares):
    data, gathered = samples(count), []
    for rank in range(3):
        nll = compute(base.untouched(), data, Share(rank, 3, gathered), 200)
    assert sorted(index for rows, _ in gathered for index in rows) == list(range(count))
    assert {len(rows) for rows, _ in gathered} == shares
    assert list(nll) == data.ids
    assert nll == pytest.approx(compute(base.untouched(), data, SOLO, 200), abs=1e-6)


def test_what_is_written_is_read(tmp_path):
    assert BaseLosses.read(tmp_path / "none.arrow") is None
    LOSSES.write(tmp_path / "deep" / "losses.arrow")
    assert BaseLosses.read(tmp_path / "deep" / "losses.arrow") == LOSSES
    assert os.listdir(tmp_path / "deep") == ["losses.arrow"]
    assert LOSSES.level == 2.0
    assert BaseLosses("key", {"a": float("nan"), "b": 1.0}).level is None


def test_losses_are_reused_where_the_key_fits(tmp_path):
    sweep, other, cache = (tmp_path / name for name in ("sweep", "other", "cache"))
    assert provide(sweep, cache, "key") is None
    keep(LOSSES, sweep, cache)
    assert provide(sweep, None, "key") == LOSSES
    assert provide(sweep, None, "another") is None
    assert provide(other, None, "key") is None
    assert provide(other, cache, "another") is None
    assert provide(other, cache, "key") == LOSSES
    assert BaseLosses.read(other / FILE) == LOSSES


def test_a_shared_folder_that_cannot_be_written_costs_no_more_than_a_warning(tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    keep(LOSSES, tmp_path / "sweep", tmp_path / "cache")
    assert BaseLosses.read(tmp_path / "sweep" / FILE) == LOSSES
    assert "base losses are kept for this sweep only" in caplog.text


def test_the_key_changes_with_all_that_the_losses_depend_on(tiny, data, tmp_path):
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    key = losses_key(model, data.paths[0], "fp32")
    assert losses_key(tiny, data.paths[0], "fp32") == key
    keys = {key, losses_key(model, data.paths[0], "bf16"), losses_key(model, model / "config.json", "fp32")}
    keys.add(losses_key(model, data.paths[0], "fp32", "nf4"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    keys.add(losses_key(model, data.paths[0], "fp32"))
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    keys.add(losses_key(model, data.paths[0], "fp32"))
    assert len(keys) == 6


def test_a_trial_records_them_beside_its_own_and_trains_to_the_same_bits(base, data):
    losses = BaseLosses("key", compute(base.untouched(), data, SOLO, 4096))
    plain, known = Memory(), Memory()
    Loop(base).train(TrialRun(data, trial(), lane(), plain.hooks()))
    outcome = Loop(base).train(TrialRun(data, trial(), lane(), known.hooks(), SOLO, losses))
    for before, record in zip(plain.records, known.records, strict=True):
        assert (before.base_loss, before.item_base_nll) == (None, None)
        assert record.item_base_nll == [losses.nll[name] for name in record.ids]
        summed = sum(nll * n for nll, n in zip(record.item_base_nll, record.item_tokens, strict=True))
        assert record.base_loss == pytest.approx(summed / record.tokens)
        assert (record.loss, record.item_nll, record.ids) == (before.loss, before.item_nll, before.ids)
    # No weight has changed before the first update: the trial's loss is the base model's.
    assert known.records[0].item_nll == pytest.approx(known.records[0].item_base_nll, abs=1e-5)
    assert outcome.monitor.settings.base_level == losses.level


@pytest.fixture
def lane_state(tiny, base, data, tmp_path):
    places = {"output_dir": str(tmp_path / "sweep"), "model_path": str(tiny), "tokenized": data.paths[0]}
    settings = lane().model_copy(update=places)
    return LaneState(settings=settings, world=SOLO, base=base, data=data, areas={}, scorers={})


def job(lane_state, cache=None):
    return run_job(lane_state, {"do": "base_losses", "cache": cache})


def test_the_job_computes_once(data, lane_state, tmp_path):
    assert lane_state.base_losses() is None
    cache = str(tmp_path / "shared")
    assert job(lane_state, cache) == {"state": "complete", "samples": 23, "computed": True}
    assert job(lane_state, cache) == {"state": "complete", "samples": 23, "computed": False}
    assert list(lane_state.base_losses().nll) == data.ids
    lane_state.settings = lane_state.settings.model_copy(update={"output_dir": str(tmp_path / "next")})
    assert job(lane_state, cache)["computed"] is False
    assert (tmp_path / "next" / FILE).exists()
