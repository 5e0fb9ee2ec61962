"""A base in 4 bits against transformers, PEFT and bitsandbytes, which quantize and compute by themselves."""

import importlib.util
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.unit.trainables.models.adapter.architectures import config_of
from tests.unit.trainables.models.helpers import CPU, batch_of
from tests.unit.trainables.packing.helpers import Trial, gaps, initial, run_alone, run_packed
from tests.unit.trainables.training.helpers import Memory, lane, load_tiny, train_by_peft, trial
from trainables.config.sections import LoraConfig, ModelConfig, TrainingConfig
from trainables.errors import UserError
from trainables.models.base_model import load_base
from trainables.models.demo_model import DEFAULT_FOLDER
from trainables.models.forward_plan import ForwardPlan
from trainables.models.layers.nf4 import Nf4Linear, quantizable
from trainables.models.meta_model import inspect_model
from trainables.models.token_losses import token_losses
from trainables.packing.pack import Pack

QLORA = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)
TRIALS = [Trial(seed=1), Trial(seed=2, rank=2, alpha=3.0, lr=3e-2, training={"batch_size": 2})]


@pytest.fixture
def nf4(tiny):
    return load_tiny(tiny, quantize="nf4")


def first_step_gap(found, expected, data, t):
    """The largest gap of a sample's loss in the first step, nats a token."""
    tokens = [int(data.label_mask(i).sum()) for micro in t.epoch(len(data))[0] for i in micro]
    pairs = zip(found.sums[0], expected.sums[0], tokens, strict=True)
    return max(abs(ours - theirs) / count for ours, theirs, count in pairs)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_pack_trains_as_peft_and_bitsandbytes_do(tiny, samples, recompute):
    base, data = load_tiny(tiny, quantize="nf4", gradient_checkpointing=recompute), samples(12)
    pack = Pack(base)
    assert pack.obstacle(LoraConfig(), TrainingConfig()) is None
    found = run_packed(pack, data, TRIALS)
    for t in TRIALS:
        expected = run_alone(tiny, initial(base, t), data, t, torch.float32, quantization_config=QLORA)
        assert first_step_gap(found[t], expected, data, t) <= 1e-6
        assert max(gaps(found[t], expected).values()) <= 1e-3  # over an epoch with large LRs


@pytest.mark.slow
def test_the_demo_model_trains_as_peft_and_bitsandbytes_do(samples):
    """SmolLM2-135M; the tiny model's bytes are as good as any tokens."""
    if not DEFAULT_FOLDER.is_dir():
        pytest.skip("make demo-model")
    base, data = load_base(DEFAULT_FOLDER, ModelConfig(name="demo", quantize="nf4"), "fp32", CPU), samples(6)
    found = run_packed(Pack(base), data, TRIALS)
    for t in TRIALS:
        expected = run_alone(DEFAULT_FOLDER, initial(base, t), data, t, torch.float32, quantization_config=QLORA)
        gap = first_step_gap(found[t], expected, data, t)
        print(f"largest gap at the first step: {gap:.1e} nats a token")
        assert gap <= 1e-5


def test_one_by_one_it_is_the_packs_curve(nf4, samples):
    data, seen, t = samples(12), Memory(), Trial(seed=1)
    train_by_peft(nf4, data, trial(seed=1), lane(batch_size=3, weight_decay=0.01), seen.hooks())
    t.lr_at = lambda step: seen.records[step].lr
    found = run_packed(Pack(nf4), data, [t])[t]
    losses = [sum(sums) / record.tokens for sums, record in zip(found.sums, seen.records, strict=True)]
    assert losses == pytest.approx(seen.losses, abs=1e-6)


def test_scores_are_those_of_training_and_the_base_stays_as_it_was(tiny, nf4):
    """Bitsandbytes' own layer rounds to bf16 in evaluation, on some CPUs."""
    before = token_losses(nf4.untouched(), batch_of())
    model = nf4.prepare(LoraConfig(r=4), 0)
    assert torch.equal(token_losses(model, batch_of()), before)
    token_losses(model, batch_of()).sum().backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if "lora_" in name)
    assert torch.equal(token_losses(nf4.untouched(), batch_of()), before)
    whole = token_losses(load_tiny(tiny).untouched(), batch_of())
    assert 1e-3 < (before - whole).abs().max() < 1.0


def test_weights_take_half_a_byte(nf4):
    layers = [layer for layer in nf4.untouched().modules() if isinstance(layer, Nf4Linear)]
    assert len(layers) == 14
    assert all(isinstance(layer.get_parameter("weight").data, torch.Tensor) for layer in layers)
    for layer in layers:
        assert layer.weight.nbytes * 2 == layer.in_features * layer.out_features
        scales = layer._state
        assert scales.absmax.dtype == torch.uint8, "double quantization"
        assert scales.absmax.nbytes * 64 == layer.in_features * layer.out_features
        assert layer.full(torch.bfloat16).shape == (layer.out_features, layer.in_features)


def test_in_bf16_it_computes_as_bitsandbytes_does(tiny):
    base = load_tiny(tiny, precision="bf16", quantize="nf4")
    found = token_losses(base.untouched(), batch_of())
    bf16 = BitsAndBytesConfig(**{**QLORA.to_dict(), "bnb_4bit_compute_dtype": torch.bfloat16})
    theirs = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16, quantization_config=bf16)
    ForwardPlan(autocast=torch.bfloat16).attach(theirs)
    assert found.tolist() == pytest.approx(token_losses(theirs.train(), batch_of()).tolist(), rel=0.02, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "count", "left_out"),
    [
        ("llama", 14, []),
        ("gpt2", 0, ["attn.c_attn", "mlp.c_fc"]),  # not nn.Linear
        ("mixtral", 8, ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        ("falcon_mamba", 6, ["mixer.out_proj"]),  # read past the layer
    ],
)
def test_what_is_quantized(kind, count, left_out, tmp_path):
    config = config_of(kind, 50)
    config.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(config).eval()
    facts = inspect_model(tmp_path, ModelConfig(name=str(tmp_path)), [])
    layers = quantizable(model).layers
    assert len(layers) == count
    assert facts.quantizable == sum(layer.weight.numel() for layer in layers.values())
    assert set(left_out) <= set(facts.kept_whole)


def test_what_cannot_be_quantized_is_one_line(tiny, tmp_path, monkeypatch):
    model = AutoModelForCausalLM.from_config(config_of("gpt2", 50)).eval()
    for path in tiny.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"model.quantize: needs linear layers .* got GPT2LMHeadModel"):
        load_tiny(tmp_path, quantize="nf4")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    with pytest.raises(UserError, match=r"bitsandbytes, got none installed; run: pip install 'llm-sweeps\[nf4\]'"):
        load_tiny(tiny, quantize="nf4")


@pytest.mark.parametrize(("method", "word"), [("bitsandbytes", "bitsandbytes"), ("gptq", "gptq"), (None, "unnamed")])
def test_a_model_that_comes_quantized_is_refused(tiny, tmp_path, method, word):
    for path in tiny.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    quantization = {"load_in_4bit": True} | ({"quant_method": method} if method else {})
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
    for opened in (
        lambda: load_tiny(tmp_path),
        lambda: inspect_model(tmp_path, ModelConfig(name=str(tmp_path)), []),
    ):
        with pytest.raises(UserError, match=rf"weights that are not quantized, got .*{word}.*; name the model that it"):
            opened()
