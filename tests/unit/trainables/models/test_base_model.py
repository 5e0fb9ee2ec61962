import hashlib
import math
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertLMHeadModel

from tests.unit.trainables.models.helpers import CPU, batch_of, save_family
from trainables.config.sections import LoraConfig, ModelConfig
from trainables.errors import UserError
from trainables.models import base_model as model_module
from trainables.models.adapter.attach import draw_adapter
from trainables.models.base_model import load_base, resolve_precision
from trainables.models.tiny_llama import byte_tokenizer
from trainables.models.token_losses import token_losses

TINY = "random:tiny-llama"

ROOT = Path(__file__).resolve().parents[4]


def fresh(path, method="lora", precision="fp32", **settings):
    return load_base(path, ModelConfig(name=TINY, method=method), precision, CPU, **settings)


def fingerprint(model):
    """Hash of every weight and buffer, by name, to the bit."""
    digest = hashlib.sha256()
    for name, tensor in [*sorted(model.named_parameters()), *sorted(model.named_buffers())]:
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def train_badly(model, lr=0.1, steps=2):
    """Some steps that change every trainable weight."""
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=lr)
    for step in range(steps):
        token_losses(model, batch_of(seed=step)).sum().backward()
        optimizer.step()


class TestLora:
    def test_the_same_seed_gives_the_same_bits_after_other_trials(self, tiny):
        expected = fingerprint(fresh(tiny).prepare(LoraConfig(r=4), 7))
        served = fresh(tiny)
        train_badly(served.prepare(LoraConfig(r=4), 7))
        train_badly(served.prepare(LoraConfig(r=9, alpha=3.0), 1), lr=math.nan)
        served.prepare(LoraConfig(r=2, dropout=0.5, target_modules=["q_proj"]), 3)
        torch.manual_seed(123)
        torch.rand(7)
        assert fingerprint(served.prepare(LoraConfig(r=4), 7)) == expected
        assert fingerprint(served.prepare(LoraConfig(r=4), 8)) != expected

    def test_the_same_seed_gives_the_same_bits_in_another_process(self, tiny):
        code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from tests.unit.trainables.models.test_base_model import *
print(fingerprint(fresh({str(tiny)!r}).prepare(LoraConfig(r=4), 7)))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == fingerprint(fresh(tiny).prepare(LoraConfig(r=4), 7))

    def test_a_new_adapter_is_drawn_as_peft_draws_it_and_changes_nothing(self, tiny):
        base = fresh(tiny)
        plain = token_losses(base.untouched(), batch_of())
        torch.manual_seed(5)
        callers = torch.rand(3)
        torch.manual_seed(5)
        model = base.prepare(LoraConfig(r=64), 0)
        assert torch.equal(torch.rand(3), callers), "the caller's generator stays where it was"
        assert torch.equal(token_losses(model, batch_of()), plain)
        for name, weight in model.named_parameters():
            if "lora_A" in name:
                # Kaiming uniform with a = sqrt 5: bound 1 / sqrt(inputs).
                bound = weight.shape[1] ** -0.5
                assert weight.abs().max() <= bound
                assert weight.detach().std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        drawn = [weight for name, weight in model.named_parameters() if "lora_A" in name]
        assert len({weight.flatten()[0].item() for weight in drawn}) == len(drawn)

    @pytest.mark.parametrize(
        ("targets", "expected"),
        [
            ("all-linear", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),  # no head
            (["q_proj", "mlp.up_proj"], {"q_proj", "up_proj"}),
        ],
    )
    def test_target_modules_are_adapted_and_only_adapters_train(self, base, targets, expected):
        model = base.prepare(LoraConfig(r=2, alpha=3.0, target_modules=targets), 0)
        weights = dict(model.named_parameters())
        assert {name.split(".lora_")[0].rpartition(".")[2] for name in weights if "lora_" in name} == expected
        assert all(weight.requires_grad == ("lora_" in name) for name, weight in weights.items())
        assert model.training
        layers = [module for module in model.modules() if isinstance(module, peft.tuners.lora.Linear)]
        assert all(layer.scaling == {"default": 1.5} for layer in layers)

    @pytest.mark.parametrize("targets", [["query"], ["q_proj", "proj"]])
    def test_modules_that_are_not_there_are_refused_and_those_that_are_named(self, base, targets):
        message = r"model\.lora\.target_modules: .* got (query|proj); choose among down_proj"
        with pytest.raises(UserError, match=message):
            base.prepare(LoraConfig(target_modules=targets), 0)
        base.prepare(LoraConfig(), 0)

    def test_a_saved_adapter_loads_with_plain_peft(self, tiny, tmp_path):
        base = fresh(tiny)
        model = base.prepare(LoraConfig(r=3, alpha=5.0), 0)
        train_badly(model)
        model.eval().save_pretrained(tmp_path)
        expected = token_losses(model, batch_of())
        loaded = peft.PeftModel.from_pretrained(fresh(tiny).untouched(), tmp_path)
        assert torch.equal(token_losses(loaded, batch_of()), expected)

    def test_weights_are_drawn_in_the_order_of_their_names(self):
        class Pair(torch.nn.Module):
            def __init__(self, first, second):
                super().__init__()
                for name in (first, second):
                    weights = {"lora_A": torch.empty(2, 3), "lora_B": torch.ones(3, 2)}
                    setattr(self, name, torch.nn.ParameterDict(weights))

        pairs = [Pair("x", "y"), Pair("y", "x")]
        for pair in pairs:
            draw_adapter(pair, 0)
        assert torch.equal(pairs[0].x["lora_A"], pairs[1].x["lora_A"])
        assert torch.equal(pairs[0].y["lora_A"], pairs[1].y["lora_A"])
        assert not pairs[0].x["lora_B"].any()


class TestRestore:
    @pytest.mark.parametrize("method", ["lora", "full"])
    @pytest.mark.parametrize("lr", [0.1, math.nan])
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_the_base_comes_back_to_the_bit(self, tiny, method, lr, precision):
        base = fresh(tiny, method, precision)
        expected = fingerprint(base.untouched())
        model = base.prepare(LoraConfig(), 0)
        train_badly(model, lr)
        assert fingerprint(model) != expected
        restored = base.untouched()
        assert fingerprint(restored) == expected
        assert not isinstance(restored, peft.PeftModel)
        assert not restored.training
        assert all(weight.grad is None and not weight.requires_grad for weight in restored.parameters())

    @pytest.mark.parametrize("short", [True, False], ids=["bf16 weights", "fp32 weights"])
    def test_weights_that_are_bf16_inside_are_kept_in_half_the_memory(self, tiny, tmp_path, short):
        """And still come back to the bit; so do those that are not."""
        base = fresh(tiny, "full")
        model = base.untouched()
        if short:
            model.bfloat16()
        model.save_pretrained(tmp_path)
        byte_tokenizer().save_pretrained(tmp_path)
        base = fresh(tmp_path, "full")
        expected = fingerprint(base.untouched())
        kept = {copy.dtype for _, copy in base._weights if copy.ndim > 1}
        assert kept == {torch.bfloat16 if short else torch.float32}
        train_badly(base.prepare(LoraConfig(), 0))
        assert fingerprint(base.untouched()) == expected

    def test_preparing_ends_the_trial_before(self, tiny):
        base = fresh(tiny, "full")
        expected = fingerprint(base.prepare(LoraConfig(), 0))
        train_badly(base.prepare(LoraConfig(), 0))
        model = base.prepare(LoraConfig(), 1)
        assert fingerprint(model) == expected
        assert model.training
        assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())

    def test_buffers_that_a_forward_pass_replaces_come_back(self, tmp_path):
        """Rotary embeddings that stretch with the sequence put a new table in the place of the first."""
        rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
        folder = save_family("llama", tmp_path, rope_parameters=rope)
        byte_tokenizer().save_pretrained(folder)
        base = load_base(folder, ModelConfig(name=str(folder)), "fp32", CPU)
        pristine = fingerprint(base.untouched())
        expected = token_losses(base.untouched(), batch_of((400,)))
        base.restore()
        model = base.untouched()
        token_losses(model, batch_of((600,)))
        assert fingerprint(model) != pristine
        assert not torch.equal(token_losses(model, batch_of((400,))), expected)
        assert fingerprint(base.untouched()) == pristine
        assert torch.equal(token_losses(base.untouched(), batch_of((400,))), expected)

    def test_nothing_piles_up_from_trial_to_trial(self, tiny):
        base = fresh(tiny, gradient_checkpointing=True)
        for seed in range(3):
            train_badly(base.prepare(LoraConfig(r=2), seed))
        model = base.untouched()
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert not model.is_activation_checkpointing


class TestLoading:
    @pytest.mark.parametrize(
        ("asked", "device", "has", "expected"),
        [
            ("fp32", "cuda", True, "fp32"),
            ("bf16", "cpu", False, "bf16"),
            ("auto", "cuda", True, "bf16"),
            ("auto", "cuda", False, "fp32"),
            ("auto", "cpu", True, "bf16"),
            ("auto", "cpu", False, "fp32"),
            ("auto", "mps", True, "fp32"),
        ],
    )
    def test_auto_is_bf16_where_it_is_faster(self, monkeypatch, asked, device, has, expected):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has > including_emulation)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": has})
        assert resolve_precision(asked, torch.device(device)) == expected
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
        assert resolve_precision("auto", CPU) == "fp32"

    @pytest.mark.parametrize(
        ("method", "precision", "weights", "autocast"),
        [
            ("lora", "fp32", torch.float32, None),
            ("full", "fp32", torch.float32, None),
            ("lora", "bf16", torch.bfloat16, torch.bfloat16),
            ("full", "bf16", torch.float32, torch.bfloat16),
        ],
    )
    def test_frozen_weights_alone_may_be_bf16(self, tiny, method, precision, weights, autocast):
        base = fresh(tiny, method, precision)
        assert {weight.dtype for weight in base.untouched().parameters()} == {weights}
        assert (base.precision, base.autocast) == (precision, autocast)

    @pytest.mark.parametrize(
        ("name", "said"), [("owner/name", "owner/name"), ("./local", None), (TINY, None), ("model.gguf", None)]
    )
    def test_an_adapter_names_the_hub_id_of_its_base(self, tiny, name, said):
        model = load_base(tiny, ModelConfig(name=name), "fp32", CPU).prepare(LoraConfig(), 0)
        assert model.peft_config["default"].base_model_name_or_path == (said or str(tiny))

    def test_what_cannot_be_trained_is_the_users_error(self, tiny, tmp_path, monkeypatch):
        (tmp_path / "config.json").write_text('{"model_type": "vit"}')
        byte_tokenizer().save_pretrained(tmp_path)
        with pytest.raises(UserError, match=r"model\.name: must be a causal LM"):
            load_base(tmp_path, ModelConfig(name=str(tmp_path)), "fp32", CPU)
        monkeypatch.setattr("transformers.LlamaForCausalLM.supports_gradient_checkpointing", False)
        with pytest.raises(UserError, match=r"training\.gradient_checkpointing"):
            fresh(tiny, gradient_checkpointing=True)

    def test_a_model_that_sees_the_tokens_to_come_is_refused(self, tmp_path):
        """BERT's class builds without its encoder's name in `architectures` too; its losses would mean nothing."""
        config = BertConfig(
            vocab_size=259, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, is_decoder=False
        )
        BertLMHeadModel(config).save_pretrained(tmp_path)
        byte_tokenizer().save_pretrained(tmp_path)
        with pytest.raises(UserError, match=r"model\.name: must be a causal LM, got BertLMHeadModel, which sees"):
            load_base(tmp_path, ModelConfig(name=str(tmp_path)), "fp32", CPU)

    def test_weights_that_are_missing_are_not_drawn_at_random(self, tiny, tmp_path):
        copytree(tiny, tmp_path, dirs_exist_ok=True)
        weights = load_file(tiny / "model.safetensors")
        del weights["lm_head.weight"]
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match=r"must have all weights of a causal LM, got .* without lm_head\.weight"):
            fresh(tmp_path)

    def test_what_others_import_from_here_is_here(self):
        assert all(hasattr(model_module, name) for name in model_module.__all__)
