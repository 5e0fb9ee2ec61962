"""The pruner reads curves as lanes write them, asks for a decision and sees to it."""

import json
import math
from unittest.mock import Mock

import numpy as np
import pytest

from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.trial_record import StoppedTrials
from sweeps.pruning.pruner import Pruner
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation.base_losses import BaseLosses
from trainables.storage.working_copy import WorkingCopy

SAMPLES, BATCH = 160, 8
STEPS = SAMPLES // BATCH
BASE = 3.0


@pytest.fixture
def sweep(load):
    config = load(f"training.batch_size={BATCH}")
    config.folder.mkdir()
    areas = {name: {"nll": BASE} for name in config.heldout.areas}
    (config.folder / "baseline.json").write_text(json.dumps({"areas": areas}))
    return config


@pytest.fixture
def lanes():
    return Mock(spec=["cancel"])


@pytest.fixture
def pruner(sweep, lanes):
    store = SweepStore(WorkingCopy(sweep.folder))
    return Pruner(sweep, SAMPLES, lanes, Ledger(sweep.folder), store, StoppedTrials())


def spec(number, peak=3e-4):
    params = {"peak_lr": peak, "warmup_fraction": 0.05, "decay_floor": 4e-5}
    return TrialSpec(trial_id=f"t{number}", seed=0, params=params)


def write(config, trial, losses, steps=STEPS, append=False):
    """The lines of a curve; `losses` is each step's level, on top of what each sample is worth."""
    file = config.folder / "trials" / trial.trial_id / "curve.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    worth = np.random.default_rng(0).normal(0.0, 0.5, (STEPS, BATCH))
    begun = len(file.read_text().splitlines()) if append else 0
    lines = []
    for step in range(begun, steps):
        item_nll = [None if math.isnan(losses[step]) else float(losses[step] + w) for w in worth[step]]
        loss = None if math.isnan(losses[step]) else float(np.mean(item_nll))
        lines.append({"step": step + 1, "lr": 1e-4, "loss": loss, "grad_norm": 1.0, "item_nll": item_nll})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    file.write_text(file.read_text() + text if append else text)


def record(trial, final):
    point = {"step": STEPS, "path": "x", "areas": {"home": {"nll": final}}}
    return {**trial.model_dump(), "state": "complete", "checkpoints": [point]}


def job(step, job_id="t99", **more):
    return {"job_id": job_id, "state": "running", "attempt": 1, "step": step, "points": [], **more}


def finished(config, count=8):
    """Trials whose final objective follows their running loss, whatever their LR, but for some scatter."""
    draw = np.random.default_rng(3)
    trials = [spec(number, peak=peak) for number, peak in enumerate(draw.permutation(np.linspace(1e-4, 8e-4, count)))]
    levels = 0.02 * np.arange(count)
    for level, trial in zip(levels, trials, strict=True):
        write(config, trial, np.linspace(2.0, 1.0, STEPS) + level)
    finals = 1.0 + levels + draw.normal(0.0, 0.005, count)
    return {t.trial_id: t for t in trials}, [record(t, float(f)) for t, f in zip(trials, finals, strict=True)]


def test_a_hopeless_trial_is_stopped_once_with_its_numbers_in_the_ledger(sweep, pruner, lanes):
    specs, ended = finished(sweep)
    late = spec(99, peak=5e-4)
    write(sweep, late, np.linspace(2.0, 1.0, STEPS) + 2.5, steps=12)
    specs |= {late.trial_id: late}
    for _ in range(2):
        pruner.update(specs, {late.trial_id: job(12)}, ended)
    lanes.cancel.assert_called_once_with("t99", "pruned")
    (event,) = Ledger(sweep.folder).read()[0]
    assert (event["event"], event["trial_id"], event["rule"]) == ("trial_stopped", "t99", "dominated")
    assert event["evidence"]["behind_best"] > 0
    assert 1.0 <= event["predicted"] <= BASE
    assert pruner.stopped.predictions == {"t99": event["predicted"]}
    finding = pruner.stopped.findings["t99"]
    assert (finding["rule"], finding["severity"], finding["step"]) == ("dominated", "warning", 12)
    assert (finding["evidence"]["best"], finding["evidence"]["to_step"]) == (event["evidence"]["best"], 12)
    assert 1 <= finding["evidence"]["from_step"] <= 12
    best = specs[finding["evidence"]["best"]].params["peak_lr"]
    assert f"try peak_lr {best:.1e}" in finding["advice"]


def test_a_promising_trial_goes_on_and_its_curve_is_read_line_by_line(sweep, pruner, lanes):
    specs, ended = finished(sweep)
    good = spec(99, peak=5e-4)
    specs |= {good.trial_id: good}
    curve = np.linspace(2.0, 1.0, STEPS) - 0.05
    for steps in (3, 7, 12, 20):
        write(sweep, good, curve, steps=steps, append=steps > 3)
        pruner.update(specs, {good.trial_id: job(steps)}, ended)
        assert len(pruner._readings["t99"].lines) == steps
    lanes.cancel.assert_not_called()


def test_before_anything_has_finished_none_is_stopped_and_a_broken_loss_is_left_to_the_loop(sweep, pruner, lanes):
    bad, broken = spec(1), spec(2)
    write(sweep, bad, np.full(STEPS, 4.0), steps=15)
    write(sweep, broken, np.where(np.arange(STEPS) < 5, 2.0, np.nan), steps=15)
    pruner.update({t.trial_id: t for t in (bad, broken)}, {t.trial_id: job(15) for t in (bad, broken)}, [])
    lanes.cancel.assert_not_called()
    assert pruner.stopped.predictions == {}


def test_another_attempt_is_read_from_its_beginning(sweep, pruner):
    trial = spec(1)
    write(sweep, trial, np.full(STEPS, 2.0), steps=10)
    pruner.update({"t1": trial}, {"t1": job(10)}, [])
    write(sweep, trial, np.full(STEPS, 2.0), steps=4)
    pruner.update({"t1": trial}, {"t1": job(4, attempt=2)}, [])
    assert [line["step"] for line in pruner._readings["t1"].lines] == [1, 2, 3, 4]


def test_a_replicate_is_never_stopped(sweep, pruner, lanes):
    specs, ended = finished(sweep)
    again = spec(99).model_copy(update={"kind": "replicate", "replicate_of": "t1", "seed": 1})
    write(sweep, again, np.full(STEPS, 9.0), steps=12)
    pruner.update({**specs, "t99": again}, {"t99": job(12)}, ended)
    lanes.cancel.assert_not_called()


@pytest.mark.parametrize("known", [False, True])
def test_a_level_above_the_base_models_is_a_steady_rise_where_its_losses_are_known(sweep, pruner, known):
    """It does not rise after its warm-up, so that without them nothing is seen."""
    trial, worth = spec(1), np.random.default_rng(0).normal(0.0, 0.5, (STEPS, BATCH))
    write(sweep, trial, np.full(STEPS, 2.6))
    file = sweep.folder / "trials/t1/curve.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    items = [line | {"item_base_nll": (2.0 + worth[step]).tolist()} for step, line in enumerate(lines)]
    file.write_text("".join(json.dumps(line) + "\n" for line in items))
    if known:
        base = BaseLosses("key", {str(k): 2.0 + w for k, w in enumerate(worth.ravel())})
        base.write(sweep.folder / "cache/base_losses.arrow")
    pruner.update({"t1": trial}, {"t1": job(STEPS)}, [])
    rules = {finding["rule"] for finding in pruner._readings["t1"].findings}
    assert ("worse_than_base" in rules) <= known
    assert bool({"worse_than_base", "steady_rise"} & rules) >= known
