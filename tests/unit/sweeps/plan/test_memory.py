"""Whether a trial fits into a card, and the remedy where it doesn't: decisions on peaks that are given."""

import json
from types import SimpleNamespace

import pytest

from sweeps.plan import memory
from sweeps.plan.memory import GIB, Fit, fit, make_request, needed_bytes, refusal, usable_bytes
from sweeps.plan.screen import device_words
from trainables.config.memory_request import MemoryRequest
from trainables.config.sections import ModelConfig, TrainingConfig
from trainables.errors import UserError
from trainables.models.tiny_llama import build_tiny_llama

RECOMPUTE = "training.gradient_checkpointing=true"
CARD = "40"  # 36.5 GiB usable
LARGER, RECOMPUTED = "a card with more memory, such as a100-80gb", {"gradient_checkpointing": True}
SHARED_OUT = "resources.workers_per_lane=8, a factor of the batch, training.micro_batch_tokens=2048"


def request(method="lora", slots=1, samples=8, quantize=None, workers=1, **training):
    return MemoryRequest(
        model_path="/nowhere",
        model=ModelConfig(name="some/model", method=method, quantize=quantize),
        training=TrainingConfig(batch_size=8, **training),
        precision="bf16",
        workers=workers,
        slots=slots,
        samples=samples,
        sample_tokens=2048,
        label_share=0.5,
        scored_tokens=4096,
        prompts=32,
        prompt_tokens=1024,
        answer_tokens=32,
    )


@pytest.fixture
def peaks(monkeypatch):
    """Peaks by formula: a fixed part, and one that grows with the samples and slots and shrinks by recomputing."""

    def formula(fixed, each, adapters=None, in_4_bits=None):
        def needed(asked):
            own = fixed if asked.model.method == "full" or adapters is None else adapters
            own = in_4_bits if in_4_bits and asked.model.quantize else own
            own /= asked.workers
            part = each / 8 if asked.training.gradient_checkpointing else each
            return int((own + asked.slots * asked.samples * part) * GIB)

        monkeypatch.setattr(memory, "needed_bytes", needed)

    return formula


@pytest.mark.parametrize(
    ("device", "gib"),
    [
        ("a100-80gb", 79.0 * 0.95 - 1.5),
        ("L4", 22.0 * 0.95 - 1.5),
        ("24", 24 * 0.95 - 1.5),
        ("23.5GiB", 23.5 * 0.95 - 1.5),
    ],
)
def test_a_card_is_a_name_or_gib_and_has_a_margin(device, gib):
    assert usable_bytes(device) == pytest.approx(gib * GIB, abs=2)


def test_without_the_margin_the_whole_card_counts(peaks):
    assert usable_bytes("l4", margin=False) == 22 * GIB
    peaks(20, 1)  # 21 GiB for one sample: more than the 19.4 with the margin
    assert fit(request(), "l4").samples == 0
    assert fit(request(), "l4", margin=False).samples == 2


@pytest.mark.parametrize(
    ("device", "said"), [("a100-80g", "a100-80gb"), ("x", "known are"), ("1", "larger"), ("nan", ""), ("inf", "larger")]
)
def test_what_is_no_card_is_refused(device, said):
    with pytest.raises(UserError, match=f"--device: .*{said}"):
        usable_bytes(device)


@pytest.mark.parametrize(
    ("fixed", "each", "slots", "samples"),
    [
        (10, 1, 1, 8),
        (10, 4, 1, 6),  # 42 GiB whole; 6 samples need 34
        (30, 6, 1, 1),
        (10, 4, 2, 3),
        (35, 2, 1, 0),  # 37 with one sample
    ],
)
def test_as_many_samples_as_fit(peaks, fixed, each, slots, samples):
    peaks(fixed, each)
    found = fit(request(slots=slots), CARD)
    assert found.samples == samples
    assert (refusal(request(slots=slots), found) is None) == (samples > 0)


@pytest.mark.parametrize(
    ("asked", "fixed", "each", "adapters", "remedy"),
    [
        (request(), 30, 8, None, "set training.gradient_checkpointing=true (31.0 GiB)"),
        (request(slots=4), 30, 2, None, "set resources.trials_per_lane=1 (32.0 GiB)"),
        (request(slots=4), 30, 8, None, "set training.gradient_checkpointing=true (34.0 GiB)"),
        (request(slots=4), 34, 16, None, f"set resources.trials_per_lane=1 {RECOMPUTE} (36.0 GiB)"),
        (request(micro_batch_tokens=16384), 30, 3, None, "set training.micro_batch_tokens=auto (33.0 GiB)"),
        (request("full"), 134, 2, 16, "set model.method=lora, with its space of LRs, (18.0 GiB)"),
        (request("full"), 134, 2, 40, f"set {SHARED_OUT} (18.8 GiB)"),
        (request("full", workers=8), 80, 8, 80, "set training.micro_batch_tokens=2048 (18.0 GiB)"),
        (request(), 61, 8, None, f"set resources.shard=true {SHARED_OUT} (15.6 GiB)"),
        (request(slots=4), 200, 64, None, f"set resources.shard=true {SHARED_OUT} {RECOMPUTE} (33.0 GiB)"),
        (request(quantize="nf4"), 61, 8, None, f"name {LARGER}, and set {RECOMPUTE} (62.0 GiB)"),
        (request(quantize="nf4", **RECOMPUTED), 131, 8, None, "no card that is known here holds it (132.0 GiB)"),
    ],
)  # fmt: skip
def test_the_remedy_fits(peaks, asked, fixed, each, adapters, remedy):
    peaks(fixed, each, adapters)
    error = refusal(asked, fit(asked, CARD))
    assert str(error).endswith(f"GiB needed, 36.5 GiB usable; {remedy}")


@pytest.mark.parametrize(
    ("asked", "each", "remedy"),
    [
        (request(), 8, "set model.quantize=nf4 (28.0 GiB)"),
        (request(), 32, "set model.quantize=nf4 training.gradient_checkpointing=true (24.0 GiB)"),
        (request(quantize="nf4"), 32, "set training.gradient_checkpointing=true (24.0 GiB)"),
    ],
)
def test_a_base_in_4_bits_is_offered_where_recomputing_does_not_do(peaks, asked, each, remedy):
    peaks(60, each, in_4_bits=20)
    assert str(refusal(asked, fit(asked, CARD))).endswith(f"GiB needed, 36.5 GiB usable; {remedy}")


def test_a_sweep_asks_for_its_largest_trial(load):
    from sweeps.plan.datasets import SetPlan

    train, home = SetPlan("train.jsonl", 90, 9000, 3000, 300, {}), SetPlan("home.jsonl", 9, 900, 300, 5000, {})
    plan = SimpleNamespace(model_path="/model", train=train, areas={"home": home})
    config = load(
        "space.batch_size={low: 4, high: 16}", "space.lora_r={low: 4, high: 64}", "resources.trials_per_lane=3"
    )
    asked = make_request(config, plan)
    assert (asked.samples, asked.slots, asked.model.lora.r) == (16, 3, 64)
    assert (asked.sample_tokens, asked.scored_tokens, asked.prompt_tokens) == (300, 5000, 5000)
    assert asked.label_share == pytest.approx(1 / 3)
    small = make_request(load("training.micro_batch_tokens=700", "resources.trials_per_lane=auto"), plan)
    assert (small.samples, small.slots) == (2, 1)


@pytest.mark.parametrize(
    ("overrides", "workers"),
    [
        (["model.method=full", "resources.workers_per_lane=4"], 4),
        (["model.method=full", "resources={workers_per_lane: 4, shard: false}"], 1),
        (["resources={workers_per_lane: 4, shard: true}"], 4),
        (["resources.workers_per_lane=4"], 1),
    ],
)
def test_a_sweep_asks_for_a_part_where_its_workers_share_the_weights_out(load, overrides, workers):
    from sweeps.plan.datasets import SetPlan

    train = SetPlan("train.jsonl", 90, 9000, 3000, 300, {})
    plan = SimpleNamespace(model_path="/model", train=train, areas={"home": train})
    assert make_request(load(*overrides), plan).workers == workers


def test_a_peak_is_measured_once(tmp_path, monkeypatch):
    """The tiny model, by a process of its own."""
    monkeypatch.chdir(tmp_path)
    build_tiny_llama(tmp_path / "model")
    small = {"sample_tokens": 64, "scored_tokens": 64, "prompts": 0}
    asked = request("full").model_copy(update={"model_path": str(tmp_path / "model"), **small})
    whole = needed_bytes(asked)
    weights = (tmp_path / "model/model.safetensors").stat().st_size
    assert 4 * weights < whole < 40 << 20  # weights, gradients, two moments, and activations
    (tmp_path / "model/model.safetensors").unlink()  # only the shape is read
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("it is cached"))
    assert needed_bytes(asked) == whole
    assert len(list((tmp_path / memory.CACHE).iterdir())) == 1


def test_a_model_whose_code_does_not_run_is_an_error_of_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "none-such"}))
    with pytest.raises(UserError, match="--device: the model's memory must be known"):
        needed_bytes(request().model_copy(update={"model_path": str(tmp_path)}))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Fit("l4", 20 * GIB, 15 * GIB, 8, 8), "l4: fits, 15.0 GiB needed for whole batches of the longest sample, "),
        (Fit("l4", 20 * GIB, 45 * GIB, 3, 8), "l4: fits in micro-batches of 3 of 8 samples, 45.0 GiB needed"),
        (Fit("l4", 20 * GIB, 45 * GIB, 0, 8), "l4: does not fit, 45.0 GiB needed"),
    ],
)  # fmt: skip
def test_what_the_plan_says(found, words):
    assert device_words(found).startswith(words)
