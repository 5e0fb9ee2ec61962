import math
import statistics
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from tests.unit.trainables.training.helpers import Memory, count_reads, lane, load_tiny, reference, trial
from trainables.optim.lr_schedule import LRSchedule
from trainables.optim.workers import dropout_state
from trainables.packing.pack import Pack
from trainables.training.loop import Loop, TrialRun


def fresh(tiny, config, precision="fp32"):
    recompute = config.training.gradient_checkpointing
    return load_tiny(tiny, config.model.method, precision, gradient_checkpointing=recompute)


def run(base, data, config, spec=None, **memory):
    seen = Memory(**memory)
    outcome = Loop(base).train(TrialRun(data, spec or trial(), config, seen.hooks()))
    return seen, outcome


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_curve_is_that_of_a_plain_loop(tiny, data, method, accumulation):
    """43 samples, 4 a batch: the last step is short, and with accumulation its last micro-batch too."""
    spec = trial() if method == "lora" else trial(peak_lr=2e-3, decay_floor=4e-4)
    config = lane(method, gradient_accumulation=accumulation, max_grad_norm=0.0)
    base = fresh(tiny, config)
    unclipped, _ = run(base, data, config, spec)
    threshold = statistics.median(record.grad_norm for record in unclipped.records)
    config = lane(method, gradient_accumulation=accumulation, max_grad_norm=threshold)
    prepared = base.prepare(config.model.lora, spec.seed).state_dict()
    expected = reference(tiny, prepared, data, spec, config)

    seen, outcome = run(base, data, config, spec)

    assert outcome.state == "complete"
    assert outcome.steps == outcome.steps_planned == len(expected.losses) == math.ceil(43 / (4 * accumulation))
    assert seen.losses == pytest.approx(expected.losses, abs=1e-5)
    assert seen.losses[-1] < 0.92 * seen.losses[0]  # it did learn, so that the last steps say something
    assert [r.lr for r in seen.records] == pytest.approx(expected.lrs)
    assert [r.grad_norm for r in seen.records] == pytest.approx(expected.grad_norms, rel=1e-4)
    assert {r.clipped for r in seen.records} == {True, False}
    assert [r.clipped for r in seen.records] == [norm > threshold for norm in expected.grad_norms]
    items = {name: nll for r in seen.records for name, nll in zip(r.ids, r.item_nll, strict=True)}
    assert items == pytest.approx(expected.item_nll, abs=1e-5)


def test_weight_decay_and_no_clipping_are_those_of_a_plain_loop(tiny, data):
    config = lane(weight_decay=0.1, max_grad_norm=0.0, beta1=0.8, beta2=0.95)
    base = fresh(tiny, config)
    expected = reference(tiny, base.prepare(config.model.lora, 7).state_dict(), data, trial(), config)
    seen, _ = run(base, data, config)
    assert seen.losses == pytest.approx(expected.losses, abs=1e-5)
    assert not any(record.clipped for record in seen.records)


def test_every_sample_is_seen_once_and_the_numbers_add_up(tiny, data):
    config = lane()
    seen, outcome = run(fresh(tiny, config), data, config)
    ids = [name for record in seen.records for name in record.ids]
    assert sorted(ids) == sorted(data.ids)
    assert outcome.samples_seen == len(data) == 43
    assert [record.step for record in seen.records] == list(range(1, 12))
    assert [len(record.ids) for record in seen.records] == [4] * 10 + [3]
    counts = {data.ids[i]: int(data.label_mask(i).sum()) for i in range(len(data))}
    for record in seen.records:
        assert record.item_tokens == [counts[name] for name in record.ids]
        assert record.tokens == sum(record.item_tokens)
        whole = sum(nll * n for nll, n in zip(record.item_nll, record.item_tokens, strict=True))
        assert record.loss == pytest.approx(whole / record.tokens)
    assert seen.records[-1].lr == 4e-3
    assert max(record.lr for record in seen.records) == 2e-2
    assert seen.checkpoints == [6, 11]


def test_speed_counts_every_token_once_and_the_time_of_the_steps(tiny, data, monkeypatch):
    """A clock that moves by a second a look; 43 steps with reports at every second or third."""
    now = iter(range(10**6))
    monkeypatch.setattr("trainables.training.loop.time", SimpleNamespace(monotonic=lambda: next(now)))
    config = lane(batch_size=1)
    seen, _ = run(fresh(tiny, config), data, config)
    steps = [speed.step for speed in seen.speeds]
    assert steps[-1] == 43
    assert len(steps) == len(set(steps)) < 25
    assert [speed.seconds for speed in seen.speeds] == [b - a for a, b in pairwise([0, *steps])]
    length = dict(zip(data.ids, data.lengths, strict=True))
    for (first, last), speed in zip(pairwise([0, *steps]), seen.speeds, strict=True):
        assert speed.tokens == sum(length[name] for record in seen.records[first:last] for name in record.ids)


def test_searched_values_replace_the_configs(tiny, data):
    config = lane()
    spec = trial(batch_size=8.0, lora_r=2.0)
    ranks = []
    look = {"on_checkpoint": lambda _, model: ranks.append(model.peft_config["default"].r)}
    seen, outcome = run(fresh(tiny, config), data, config, spec, **look)
    assert outcome.steps == 6
    assert len(seen.records[0].ids) == 8
    assert ranks == [2, 2]


@pytest.mark.parametrize(("method", "dropout"), [("lora", 0.0), ("lora", 0.3), ("full", 0.0)])
def test_a_base_that_has_served_other_trials_gives_the_same_curve_to_the_bit(tiny, data, method, dropout):
    config = lane(method, lora={"r": 4, "alpha": 8.0, "dropout": dropout})
    torch.manual_seed(1)
    expected, _ = run(fresh(tiny, config), data, config)

    served = fresh(tiny, config)
    run(served, data, config, trial(seed=1, peak_lr=2e-2))
    run(served, data, config, trial(seed=2, lora_r=9.0), stop_at=3)
    run(served, data, config, trial(seed=3, peak_lr=1e30, max_grad_norm=0.0))  # leaves NaN behind
    torch.manual_seed(2)
    again, _ = run(served, data, config)

    assert again.records == expected.records


def test_dropout_changes_the_curve(tiny, data):
    def losses(dropout):
        config = lane(lora={"r": 4, "alpha": 8.0, "dropout": dropout})
        return run(fresh(tiny, config), data, config)[0].losses

    assert losses(0.3) != losses(0.0)


def test_dropout_is_drawn_anew_for_each_seed_step_and_worker():
    sources = [(7, 0, 0), (8, 0, 0), (7, 1, 0), (7, 0, 1), (7, 0, 0)]
    assert len({dropout_state(*source) for source in sources}) == 4


def test_held_out_scores_at_a_checkpoint_do_not_change_the_curve(tiny, data):
    """The hook draws random numbers, as generating might, and finds the model in evaluation mode."""
    config = lane(lora={"r": 4, "alpha": 8.0, "dropout": 0.3})
    modes = []

    def hook(_, model):
        modes.append(model.training)
        torch.rand(5)

    plain, _ = run(fresh(tiny, config), data, config)
    hooked, _ = run(fresh(tiny, config), data, config, on_checkpoint=hook)
    assert hooked.records == plain.records
    assert modes == [False, False]


@pytest.mark.parametrize("stop_at", [0, 1, 4, 6])
def test_a_stopped_trial_trains_not_one_step_more(tiny, data, monkeypatch, stop_at):
    config = lane(checkpoints_at=[0.5, 1.0])  # step 6 and step 11
    updates = []
    update = Pack.step
    monkeypatch.setattr(Pack, "step", lambda self, parts: (updates.append(1), update(self, parts))[1])
    seen, outcome = run(fresh(tiny, config), data, config, stop_at=stop_at)
    assert (outcome.state, outcome.steps, outcome.steps_planned) == ("stopped", stop_at, 11)
    assert outcome.samples_seen == 4 * stop_at
    assert len(updates) == len(seen.records) == stop_at
    assert seen.checkpoints == [step for step in (6,) if step <= stop_at]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_far_too_high_lr_is_a_divergence_with_a_finding_and_no_further_checkpoint(tiny, data, method):
    config = lane(method, max_grad_norm=0.0)
    spec = trial(peak_lr=1e30, decay_floor=1e29, warmup_fraction=0.0)
    seen, outcome = run(fresh(tiny, config), data, config, spec)
    assert outcome.state == "diverged"
    assert outcome.steps < outcome.steps_planned
    assert outcome.steps == len(seen.records)
    assert seen.checkpoints == []
    (finding,) = outcome.findings
    assert finding["severity"] == "error"
    assert finding["step"] <= outcome.steps
    assert "peak_lr" in finding["advice"]


def test_the_device_is_waited_for_at_report_points_only(tiny, data, monkeypatch):
    """43 steps and 20 report points: so many transfers of numbers to the host, and no more."""
    config = lane(batch_size=1, checkpoints_at=[1.0])
    transfers = count_reads(monkeypatch)
    seen, _ = run(fresh(tiny, config), data, config)
    assert len(seen.records) == 43
    assert len(transfers) == 20


def test_gradient_checkpointing_changes_nothing_but_memory(tiny, data):
    plain, _ = run(fresh(tiny, lane()), data, lane())
    config = lane(gradient_checkpointing=True)
    recomputed, _ = run(fresh(tiny, config), data, config)
    assert recomputed.losses == pytest.approx(plain.losses, abs=1e-6)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_bf16_trains_fp32_weights_to_nearly_the_same_loss(tiny, data, method):
    spec = trial(peak_lr=2e-3, decay_floor=4e-4)
    exact, _ = run(fresh(tiny, lane(method)), data, lane(method), spec)
    config = lane(method, precision="bf16")
    kept = []

    def keep_types(_, model):
        kept.extend(weight.dtype for weight in model.parameters() if weight.requires_grad)

    rounded, _ = run(fresh(tiny, config, "bf16"), data, config, spec, on_checkpoint=keep_types)
    assert set(kept) == {torch.float32}
    assert rounded.losses != exact.losses
    assert rounded.losses == pytest.approx(exact.losses, rel=0.03)


def test_one_lane_trains_trials_of_other_layers_and_schedule_shapes_one_after_another(tiny, data):
    settings = [
        ({"target_modules": "q_proj"}, {"q_proj"}, "linear"),
        ({"target_modules": "v_proj,down_proj", "schedule_shape": "wsd"}, {"v_proj", "down_proj"}, "wsd"),
        ({"target_modules": "q_proj", "schedule_shape": "cosine"}, {"q_proj"}, "cosine"),
    ]
    base, config = fresh(tiny, lane()), lane()
    loop = Loop(base)
    for params, layers, shape in settings:
        adapted = set()

        def note(_step, model, adapted=adapted):
            adapted |= {name.split(".lora_A")[0].rpartition(".")[2] for name in model.state_dict() if "lora_A" in name}

        seen, spec = Memory(on_checkpoint=note), trial(**params)
        run_of_trial = TrialRun(data, spec, config, seen.hooks())
        assert loop.train(run_of_trial).state == "complete"
        assert adapted == layers
        schedule = LRSchedule(2e-2, 4e-3, len(seen.records), round(0.2 * len(seen.records)), shape)
        assert [record.lr for record in seen.records] == pytest.approx([schedule(n) for n in range(len(seen.records))])
        alone, _ = run(fresh(tiny, config), data, config, spec)
        assert seen.losses == alone.losses
