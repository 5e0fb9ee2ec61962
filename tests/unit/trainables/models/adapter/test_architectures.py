"""Tiny models of forty architectures: losses of plain transformers, one LoRA step, an adapter that others can load."""

import re

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.unit.trainables.models.adapter.architectures import ARCHITECTURES, save_architecture
from tests.unit.trainables.models.helpers import CPU, plain_losses
from tests.unit.trainables.training.helpers import Memory, lane, tokenized, trial
from trainables.checkpoints.checkpoint import load, save
from trainables.config.sections import ModelConfig
from trainables.models.base_model import load_base
from trainables.models.forward_plan import ForwardPlan
from trainables.models.meta_model import inspect_model
from trainables.models.tiny_llama import byte_tokenizer
from trainables.models.token_losses import token_losses
from trainables.packing.eligibility import Packable
from trainables.training.loop import Loop, TrialRun

QUICK = ("gpt_neox", "falcon", "gpt2", "phimoe", "deepseek_v3", "gpt_oss", "mamba")
KINDS = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in ARCHITECTURES]

# What of a model's matrices gets no adapter, next to routers: PEFT refuses it, or it is neither a layer nor an expert.
LEFT_OUT = {
    "mamba": "mixer.out_proj",
    "mamba2": "mixer.out_proj",
    "falcon_mamba": "mixer.out_proj",
    "falcon_h1": "mamba.out_proj",
    "recurrent_gemma": "temporal_block.rg_lru.input_gate_weight",
}
ROUTER = re.compile(r"\b(gate|router)\b")
# Laid end to end, without padding; others are padded, because they compute attention or a state themselves.
FLAT = (
    "llama mistral qwen2 qwen3 gemma gemma3_text gpt2 gpt_bigcode opt gpt_neox phi phi3 starcoder2 olmo2 "
    "smollm3 glm4 granite cohere mixtral qwen2_moe qwen3_moe olmoe granitemoe phimoe deepseek_v3 glm4_moe "
    "hunyuan_v1_moe jetmoe "
)
# Their experts are one tensor, their layers no nn.Linear, or they draw numbers in training: one trial at a time.
ONE_BY_ONE = (
    "gpt2 mixtral qwen2_moe qwen3_moe olmoe granitemoe gpt_oss phimoe llama4_text deepseek_v3 glm4_moe "
    "qwen3_next hunyuan_v1_moe jetmoe jamba granitemoehybrid "
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tokenized(tmp_path_factory.mktemp("data"), byte_tokenizer(), 4)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Function: the folder of a model of that kind, and the model as plain transformers loads it."""
    return lambda kind: save_architecture(kind, tmp_path_factory.mktemp(kind), byte_tokenizer())


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_of_lora(kind, loaded, data, tmp_path):
    folder, config, batch = loaded(kind), lane(checkpoints_at=[1.0]), data.batch(range(4))

    def plain():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    with torch.no_grad():
        expected = plain_losses(plain(), batch)
    base = load_base(folder, ModelConfig(name=str(folder)), "fp32", CPU)
    assert (ForwardPlan.of(base.untouched()).longest_flat > 0) == (kind in FLAT.split())
    assert (Packable(base).obstacle(config.model.lora, config.training) is not None) == (kind in ONE_BY_ONE.split())
    with torch.no_grad():
        assert (token_losses(base.untouched(), batch) - expected).abs().max() < 1e-5

    found = {}

    def on_checkpoint(_, model):
        save(model, tmp_path / "checkpoint", {})
        found["losses"] = token_losses(model, batch).detach()
        trained = {name: weight for name, weight in model.named_parameters() if "lora_" in name}
        found["trained"] = sum(weight.numel() for weight in trained.values())
        found["names"] = " ".join(trained)

    seen = Memory(on_checkpoint=on_checkpoint)
    assert Loop(base).train(TrialRun(data, trial(), config, seen.hooks())).state == "complete"
    assert seen.losses == pytest.approx([expected.mean().item()], abs=1e-5)
    assert (found["losses"] - expected).abs().max() > 1e-3, "the step changed something"

    facts = inspect_model(folder, ModelConfig(name=str(folder)), [config.model.lora])
    (adapter,) = facts.adapters
    assert facts.parameters == sum(weight.numel() for weight in plain().parameters())
    assert adapter.trained == found["trained"]
    left_out = [name for name in adapter.left_out if not ROUTER.search(name)]
    assert left_out[:1] == ([LEFT_OUT[kind]] if kind in LEFT_OUT else [])
    assert (adapter.share > 0.97) == (kind not in LEFT_OUT)
    assert not any(part in found["names"] for part in ("router", ".gate.", "shared_expert_gate", "lm_head"))

    again = base.prepare(config.model.lora, 3)
    load(again, tmp_path / "checkpoint")
    with torch.no_grad():
        assert (token_losses(again.eval(), batch) - found["losses"]).abs().max() < 1e-5
    adapted = peft.PeftModel.from_pretrained(plain(), tmp_path / "checkpoint").eval()
    with torch.no_grad():
        assert (plain_losses(adapted, batch) - found["losses"]).abs().max() < 1e-5
        assert (plain_losses(adapted.merge_and_unload(), batch) - found["losses"]).abs().max() < 1e-4
        assert (token_losses(base.untouched(), batch) - expected).abs().max() < 1e-5, "the base is as it was"
