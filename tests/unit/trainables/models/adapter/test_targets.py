import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.unit.trainables.models.adapter.architectures import SIZES, config_of
from trainables.config.sections import LoraConfig
from trainables.errors import UserError
from trainables.models.adapter.attach import attach_adapter
from trainables.models.adapter.targets import READ_PAST_THE_LAYER, adaptable, adapter_config, coverage


def on_meta(kind, **special):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_of(kind, 50, **special))


def adapted(model, targets="all-linear", **settings):
    """Names below the first two layers' numbers of what carries an adapter."""
    found = attach_adapter(model, LoraConfig(r=2, target_modules=targets, **settings))
    names = {name.partition(".lora_A")[0] for name, _ in found.named_parameters() if "lora_A" in name}
    return {name.partition("layers.")[2].partition(".")[2] or name for name in names}


class TestNames:
    @pytest.mark.parametrize(
        ("kind", "targets", "expected"),
        [
            ("gpt2", ["c_attn"], {"base_model.model.transformer.h.0.attn.c_attn"}),
            ("llama", ["q_proj", "mlp.up_proj"], {"self_attn.q_proj", "mlp.up_proj"}),
            ("llama", ["lm_head"], {"base_model.model.lm_head"}),
            ("mixtral", ["q_proj"], {"self_attn.q_proj"}),
            # Experts: by the tensor's name, by what its parts were called, by the module that holds them.
            ("mixtral", ["gate_up_proj"], {"mlp.experts"}),
            ("mixtral", ["w1", "w3"], {"mlp.experts"}),
            ("mixtral", ["w2", "q_proj"], {"mlp.experts", "self_attn.q_proj"}),
            ("mixtral", ["experts"], {"mlp.experts", "mlp.experts.base_layer"}),
            # A name means all that bear it: experts, shared experts and dense layers.
            ("deepseek_v3", ["down_proj"], {"mlp.down_proj", "mlp.experts", "mlp.shared_experts.down_proj"}),
            ("deepseek_v3", ["shared_experts.up_proj"], {"mlp.shared_experts.up_proj"}),
            ("jetmoe", ["input_linear"], {"mlp.input_linear", "self_attention.experts.input_linear"}),
        ],
    )
    def test_what_is_named_is_adapted(self, kind, targets, expected):
        found = adapted(on_meta(kind), targets)
        if kind == "gpt2":
            found = {name for name in found if ".h.0." in name}
        assert found == expected

    @pytest.mark.parametrize(
        ("kind", "targets", "message"),
        [
            ("llama", ["query"], "must name layers .*, got query; choose among down_proj, gate_proj, k_proj, o_proj"),
            ("llama", ["q_proj", "proj"], "got proj;"),
            ("llama", ["self_attn"], "got self_attn;"),
            ("gpt2", ["q_proj"], "got q_proj; choose among c_attn, c_fc, c_proj$"),
            ("gpt2", ["lm_head"], "got lm_head; choose"),  # tied: its adapter would change the embeddings too
            ("mixtral", ["gate"], "got gate; choose among down_proj, gate_up_proj, k_proj"),
            ("phimoe", ["router"], "got router; choose"),
            ("llama4_text", ["q_proj", "router"], "got router; choose"),
            ("qwen2_moe", ["shared_expert_gate"], "got shared_expert_gate; choose"),
            ("mixtral", ["w1"], "must name all parts .*, got w1, a part of mlp.experts.gate_up_proj; name w1 and w3"),
            ("glm4_moe", ["up_proj", "q_proj"], "got up_proj, a part of .*; name gate_proj and up_proj"),
            ("mamba", ["in_proj", "out_proj"], "got out_proj; choose among dt_proj, in_proj, x_proj$"),
        ],
    )
    def test_what_names_nothing_is_refused_with_the_choices(self, kind, targets, message):
        with pytest.raises(UserError, match=rf"model\.lora\.target_modules: .*{message}"):
            attach_adapter(on_meta(kind), LoraConfig(target_modules=targets))

    @pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss"])
    def test_dropout_is_refused_where_experts_are_adapted(self, kind):
        with pytest.raises(UserError, match=r"model\.lora\.dropout: must be 0 .*, got 0\.05 with mlp\.experts\."):
            attach_adapter(on_meta(kind), LoraConfig(dropout=0.05))
        assert adapted(on_meta(kind), ["q_a_proj" if kind == "deepseek_v3" else "q_proj"], dropout=0.05)

    def test_what_peft_refuses_otherwise_is_one_line(self, monkeypatch):
        def refuse(*_):
            raise ValueError("Target module is not supported.\nSupported are others.")

        monkeypatch.setattr(peft, "get_peft_model", refuse)
        with pytest.raises(UserError, match="must be layers that PEFT can adapt, got Target module is not supported"):
            attach_adapter(on_meta("llama"), LoraConfig())

    @pytest.mark.parametrize("kind", sorted(READ_PAST_THE_LAYER - {"nemotron_h"}))
    def test_peft_refuses_what_is_left_out_for_it(self, kind):
        with pytest.raises(ValueError, match="out_proj"):
            peft.get_peft_model(on_meta(kind), peft.LoraConfig(target_modules=["out_proj"]))


class TestAllLinear:
    def test_towers_are_left_out(self):
        vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
        text = {**SIZES, "vocab_size": 50, "head_dim": 8, "pad_token_id": 0}
        config = AutoConfig.for_model("gemma3", text_config=text, vision_config={**vision, "image_size": 28})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        assert any("vision_tower" in name for name in layers)
        assert adaptable(model).layers.keys() == {n for n in layers if "language_model.layers" in n}
        names = " ".join(name for name, _ in attach_adapter(model, LoraConfig()).named_parameters() if "lora_" in name)
        assert "vision_tower" not in names
        assert "self_attn.q_proj" in names

    def test_experts_keep_their_rank_where_two_matrices_are_one_tensor(self):
        model = attach_adapter(on_meta("mixtral"), LoraConfig(r=2, alpha=6.0))
        (experts,) = {type(module) for module in model.modules() if type(module).__name__ == "ParamWrapper"}
        wrappers = [module for module in model.modules() if type(module) is experts]
        ranks = {wrapper.parameter_name: (wrapper.r["default"], wrapper.scaling["default"]) for wrapper in wrappers}
        assert ranks == {"gate_up_proj": (4, 3.0), "down_proj": (2, 3.0)}

    def test_a_saved_config_names_layers_briefly(self):
        config = adapter_config(on_meta("deepseek_v3"), LoraConfig())
        assert config.target_modules == {"kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "q_a_proj", "q_b_proj"}
        dense = ["down_proj.weight", "gate_proj.weight", "up_proj.weight"]
        assert config.target_parameters == [dense[0], "experts.down_proj", "experts.gate_up_proj", *dense[1:]]

    def test_the_share_is_that_of_the_weights(self):
        model = on_meta("mamba")
        share, left_out = coverage(model, adaptable(model))
        mixer = model.backbone.layers[0].mixer
        sizes = {name: getattr(mixer, name).weight.numel() for name in ("in_proj", "x_proj", "dt_proj", "out_proj")}
        assert left_out == {"mixer.out_proj": pytest.approx(sizes["out_proj"] / sum(sizes.values()))}
        assert share == pytest.approx(1 - left_out["mixer.out_proj"])
