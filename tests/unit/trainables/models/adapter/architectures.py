"""Tiny random models of forty architectures, by transformers' `model_type`."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
}
HEADED = {**SIZES, "head_dim": 8}
GPT2 = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
EXPERTS = {**SIZES, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHARED = {**EXPERTS, "head_dim": 8, "shared_expert_intermediate_size": 16}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
LATENT = {
    **EXPERTS,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
STATE = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
MIXED = {**SIZES, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}

DENSE = {
    "llama": SIZES,
    "mistral": {**SIZES, "sliding_window": None},
    "qwen2": SIZES,
    "qwen3": HEADED,
    "gemma": HEADED,
    "gemma2": {**HEADED, "query_pre_attn_scalar": 8},
    "gemma3_text": {**HEADED, "query_pre_attn_scalar": 8},
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "gptj": {**GPT2, "rotary_dim": 4},
    "opt": {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    "gpt_neox": SIZES,
    "falcon": {k: v for k, v in SIZES.items() if k != "intermediate_size"},
    "phi": SIZES,
    "phi3": SIZES,
    "starcoder2": SIZES,
    "stablelm": SIZES,
    "olmo2": SIZES,
    "smollm3": SIZES,
    "glm4": HEADED,
    "granite": SIZES,
    "cohere": SIZES,
    "nemotron": SIZES,
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "context_length": 256},
}
WITH_EXPERTS = {
    "mixtral": EXPERTS,
    "qwen2_moe": {**SHARED, "decoder_sparse_step": 1},
    "qwen3_moe": SHARED,
    "olmoe": EXPERTS,
    "granitemoe": EXPERTS,
    "gpt_oss": SHARED,
    "phimoe": EXPERTS,
    "llama4_text": {**SHARED, "intermediate_size_mlp": 48},
    "deepseek_v3": LATENT,
    "glm4_moe": {**LATENT, "head_dim": 8},
    "qwen3_next": {**SHARED, **DELTA, "layer_types": ["linear_attention", "full_attention"]},
    "hunyuan_v1_moe": SHARED,
    "jetmoe": {**EXPERTS, "kv_channels": 8},
}
WITH_STATE = {
    "mamba": STATE,
    "mamba2": {**STATE, "num_heads": 4, "head_dim": 16, "n_groups": 1},
    "falcon_mamba": STATE,
    "falcon_h1": {**MIXED, "mamba_d_ssm": 64, "head_dim": 8},
    "jamba": {**EXPERTS, "mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_offset": 0},
    "granitemoehybrid": {**MIXED, **EXPERTS, "layer_types": ["mamba", "attention"]},
    "bamba": {**MIXED, "attn_layer_indices": [1]},
    "recurrent_gemma": {**SIZES, "lru_width": 32, "block_types": ["recurrent", "attention"]},
}
ARCHITECTURES = {**DENSE, **WITH_EXPERTS, **WITH_STATE}


def config_of(kind, vocabulary, **special):
    """`special` goes before the table's sizes' own values."""
    tokens = {"vocab_size": vocabulary, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    return AutoConfig.for_model(kind, **{**tokens, **ARCHITECTURES[kind], **special})


def save_architecture(kind, folder, tokenizer, **special):
    """A model with random weights, without dropout, and a tokenizer."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(kind, len(tokenizer), **special))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "A_log" not in name:
                weight.normal_(0.0, weight.shape[-1] ** -0.5)  # large enough that tokens differ
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
