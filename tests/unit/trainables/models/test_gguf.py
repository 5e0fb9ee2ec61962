import json

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from trainables.config.sections import ModelConfig
from trainables.errors import UserError
from trainables.models.pretrained import load_tokenizer, resolve_model
from trainables.models.tiny_llama import CHAT_TEMPLATE


def resolve(file, cache):
    return resolve_model(ModelConfig(name=str(file)), cache)


TOKENS = ["<|pad|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the"]
GGUF_SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
HEADS, KEY_HEADS = 4, 2


def write_gguf(path, model):
    """A Llama as llama.cpp stores it: matrices in blocks of 8 bits, queries and keys in its own order."""
    writer = gguf.GGUFWriter(str(path), "llama")
    sizes = {"context_length": 128, "embedding_length": 64, "block_count": 2, "feed_forward_length": 96}
    heads = {"head_count": HEADS, "head_count_kv": KEY_HEADS, "layer_norm_rms_eps": 1e-5, "rope_freq_base": 10000.0}
    tokens = {"vocab_size": len(TOKENS), "token_list": TOKENS, "token_types": [3, 3, 3, *[1] * (len(TOKENS) - 3)]}
    marks = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "chat_template": CHAT_TEMPLATE}
    bpe = {"tokenizer_model": "gpt2", "token_merges": ["t h", "th e"]}
    for name, value in (sizes | heads | tokens | marks | bpe).items():
        getattr(writer, f"add_{name}")(value)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    names |= {f"model.layers.{i}.{theirs}": f"blk.{i}.{ours}" for i in range(2) for theirs, ours in parts.items()}
    for name, weight in model.named_parameters():
        values = weight.detach().numpy()
        for part, heads in (("q_proj", HEADS), ("k_proj", KEY_HEADS)):
            if part in name:
                values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        stored = names[name.removesuffix(".weight")] + ".weight"
        if weight.ndim == 1:
            writer.add_tensor(stored, values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(stored, gguf.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rounded(weight):
    """What is left of a matrix in blocks of 8 bits."""
    if weight.ndim == 1:
        return weight
    kind = gguf.GGMLQuantizationType.Q8_0
    return torch.from_numpy(gguf.dequantize(gguf.quantize(weight.numpy(), kind), kind))


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    sizes = {**GGUF_SIZES, "num_key_value_heads": KEY_HEADS, "max_position_embeddings": 128, "rms_norm_eps": 1e-5}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(TOKENS), tie_word_embeddings=False, **sizes)).eval()


@pytest.fixture(scope="module")
def file(llama, tmp_path_factory):
    file = tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf"
    write_gguf(file, llama)
    return file


@pytest.fixture(scope="module")
def converted(file, tmp_path_factory):
    return resolve(file, tmp_path_factory.mktemp("cache"))


def test_the_weights_are_what_the_blocks_stand_for(llama, converted):
    loaded = AutoModelForCausalLM.from_pretrained(converted, dtype="auto")
    expected = {name: rounded(weight.detach()) for name, weight in llama.named_parameters()}
    found = dict(loaded.named_parameters())
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], weight), name
    # Queries and keys could be in a wrong order that only attention shows.
    llama.load_state_dict(expected)
    tokens = torch.arange(40)[None] * 5 % len(TOKENS)
    torch.testing.assert_close(loaded(tokens).logits, llama(tokens).logits, atol=1e-5, rtol=1e-5)


def test_the_folder_is_an_ordinary_one(converted, tmp_path):
    loaded = AutoModelForCausalLM.from_pretrained(converted)
    assert "quantization_config" not in json.loads((converted / "config.json").read_text())
    assert (loaded.generation_config.eos_token_id, loaded.generation_config.pad_token_id) == (2, 0)
    loaded.save_pretrained(tmp_path)  # which transformers refuses to do for what it takes for quantised


def test_the_tokenizer_comes_along(converted):
    tokenizer = load_tokenizer(converted)
    reference = Tokenizer(models.BPE({t: i for i, t in enumerate(TOKENS)}, [("t", "h"), ("th", "e")]))
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    reference.decoder = decoders.ByteLevel()
    text = "the thing at 3,5 é"
    assert tokenizer(text, add_special_tokens=False).input_ids == reference.encode(text).ids
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|pad|>")
    message = [{"role": "user", "content": "x"}]
    assert tokenizer.apply_chat_template(message, tokenize=False) == "<|im_start|>user\nx<|im_end|>\n"


def test_a_file_is_converted_once_by_its_content(file, tmp_path):
    first = resolve(file, tmp_path / "cache")
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    again = tmp_path / file.name
    again.write_bytes(file.read_bytes())
    assert resolve(again, tmp_path / "cache") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    assert [folder.name for folder in (tmp_path / "cache").iterdir()] == [first.name]


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 10, None], ids=["", "GGUF", "text", "half"])
def test_a_damaged_file_is_the_users_error(file, content, tmp_path):
    half = file.read_bytes()[: file.stat().st_size // 2]
    (tmp_path / "broken.gguf").write_bytes(half if content is None else content)
    with pytest.raises(UserError, match=r"model\.name: must be a GGUF file that transformers can read"):
        resolve(tmp_path / "broken.gguf", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
