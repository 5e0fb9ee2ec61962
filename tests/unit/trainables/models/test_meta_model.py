import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.unit.trainables.models.adapter.architectures import SIZES, config_of
from tests.unit.trainables.models.helpers import CPU
from trainables.config.sections import LoraConfig, ModelConfig
from trainables.errors import UserError
from trainables.models.adapter import attach
from trainables.models.adapter.attach import attach_adapter
from trainables.models.base_model import load_base
from trainables.models.meta_model import inspect_model
from trainables.models.tiny_llama import byte_tokenizer

# Class names of what `AutoModelForCausalLM` builds too, though it is none.
BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"], **SIZES}
REWARD = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"], **SIZES}
NO_CAUSAL_LM = [
    ({"model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"]}, r"type mistral3 \(Mistral3For"),
    ({"model_type": "vit"}, "of type vit"),
    ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, r"type t5 \(T5For"),
    (BERT, r"type bert \(BertForMaskedLM\)"),
    (REWARD, r"type llama \(LlamaForSequenceClassification\)"),
    ({"model_type": "of-tomorrow"}, "of-tomorrow"),
]


def facts_of(folder, *loras):
    return inspect_model(folder, ModelConfig(name=str(folder)), loras)


@pytest.mark.parametrize(("config", "said"), NO_CAUSAL_LM)
def test_what_is_no_causal_lm_is_one_line(tmp_path, config, said):
    (tmp_path / "config.json").write_text(json.dumps(config))
    byte_tokenizer().save_pretrained(tmp_path)
    for opened in (facts_of, lambda folder: load_base(folder, ModelConfig(name=str(folder)), "fp32", CPU)):
        with pytest.raises(UserError, match=f"causal LM .*{said}.*; name a decoder") as refused:
            opened(tmp_path)
        assert len(str(refused.value)) < 500, "no list of all classes"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_attention_heads": 3}, "ValueError: The hidden size .* is not a multiple of"),
        ({"hidden_size": "64"}, "TypeError: Field 'hidden_size' expected int"),
        ({"max_position_embeddings": 2048.0}, "TypeError: Field 'max_position_embeddings' expected int"),
        ({"dtype": "float99"}, "AttributeError: module 'torch' has no attribute 'float99'"),
        ({"hidden_act": "magic"}, "KeyError: 'magic'"),
        ({"rope_parameters": {"rope_type": "magic", "rope_theta": 1e4}}, "KeyError: 'magic'"),
    ],
)
def test_a_config_that_no_model_can_be_built_by_is_one_line(tmp_path, change, said):
    (tmp_path / "config.json").write_text(json.dumps({**config_of("llama", 50).to_dict(), **change}))
    with pytest.raises(UserError, match=f"model.name: must have a config.json that .*{said}.*; correct it"):
        facts_of(tmp_path)


def test_a_model_without_layers_has_nothing_to_adapt(tmp_path):
    config_of("llama", 50, num_hidden_layers=0).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"model\.lora\.target_modules: must be layers that PEFT can adapt"):
        facts_of(tmp_path, LoraConfig())


@pytest.mark.parametrize(
    ("kind", "special", "positions", "fails"),
    [
        ("gpt2", {"n_positions": 40}, 40, True),
        ("gpt_bigcode", {"n_positions": 40}, 40, True),
        ("opt", {"max_position_embeddings": 40}, 40, True),  # its table has two rows more
        ("gptj", {"n_positions": 40}, 40, True),  # sines in a buffer
        ("mpt", {"max_seq_len": 40}, 40, True),  # ALiBi for so many
        ("llama", {"max_position_embeddings": 40}, 40, False),
        ("falcon", {"max_position_embeddings": 40}, 40, False),
        ("bloom", {}, None, False),
        ("mamba", {}, None, False),
    ],
)
def test_positions_end_where_the_model_fails(kind, special, positions, fails, tmp_path):
    config = config_of(kind, 50, **special)
    config.save_pretrained(tmp_path)
    facts = facts_of(tmp_path)
    assert (facts.positions, facts.positions_end) == (positions, fails)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        model(torch.ones(1, 40, dtype=torch.long))
        if fails:
            with pytest.raises((IndexError, RuntimeError)):
                model(torch.ones(1, 41, dtype=torch.long))
        else:
            model(torch.ones(1, 41, dtype=torch.long))


def test_weights_and_embeddings_are_counted(tmp_path):
    config_of("gemma", 50).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(config_of("gemma", 50))
    assert model.config.tie_word_embeddings
    few, many = LoraConfig(r=2, target_modules=["q_proj"]), LoraConfig(r=4)
    facts = facts_of(tmp_path, few, many)
    assert (facts.parameters, facts.embeddings) == (sum(weight.numel() for weight in model.parameters()), 50)
    assert facts.adapters[0].trained == 2 * 2 * (32 + 32), "two layers, each of rank 2 from 32 to 4 heads of 8"
    assert facts.adapters[0].share < facts.adapters[1].share == 1.0


@pytest.mark.parametrize(("kind", "targets"), [("llama", "all-linear"), ("gpt2", "all-linear"), ("phi3", ["o_proj"])])
def test_of_plain_layers_peft_need_not_be_asked(tmp_path, monkeypatch, kind, targets):
    lora = LoraConfig(r=3, target_modules=targets)
    adapted = attach_adapter(AutoModelForCausalLM.from_config(config_of(kind, 50)), lora)
    config_of(kind, 50).save_pretrained(tmp_path)
    monkeypatch.setattr(attach, "attach_adapter", None)
    (facts,) = facts_of(tmp_path, lora).adapters
    assert facts.trained == sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad) > 0


def test_adapters_take_no_memory(tmp_path, monkeypatch):
    """Those of DeepSeek-V3 have 7.7e9 weights at rank 16."""
    config_of("mixtral", 50).save_pretrained(tmp_path)
    devices = set()

    def attached(model, lora):
        adapted = attach_adapter(model, lora)
        devices.update(weight.device.type for weight in adapted.parameters())
        return adapted

    monkeypatch.setattr(attach, "attach_adapter", attached)
    assert facts_of(tmp_path, LoraConfig()).adapters[0].trained > 0
    assert devices == {"meta"}
