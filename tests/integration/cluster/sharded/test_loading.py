"""Two workers load a model whose weights are shared out: no worker holds a copy of the whole."""

import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

from tests.integration.cluster.gloo_workers import on_two_workers
from tests.unit.trainables.byte_tokenizer import byte_level
from trainables.config.sections import ModelConfig
from trainables.models.base_model import load_base
from trainables.models.sharding.shards import whole

pytestmark = pytest.mark.slow

SIZES = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 32, "num_attention_heads": 8}
FAMILIES = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=8, bos_token_id=None, eos_token_id=1, pad_token_id=0),
    # It keeps a scale of its embeddings in the type that it is loaded in.
    "gemma": Gemma3TextConfig(
        **{**SIZES, "num_hidden_layers": 2}, num_key_value_heads=8, head_dim=64, eos_token_id=1, pad_token_id=0
    ),
}


def anonymous_bytes():
    """Memory of this process that no file backs."""
    (line,) = (line for line in Path("/proc/self/status").read_text("ascii").splitlines() if "RssAnon" in line)
    return int(line.split()[1]) * 1024


def highest(act):
    """What `act` returns, and by how much this process's own memory grew at most meanwhile."""
    before, seen, done = anonymous_bytes(), [], threading.Event()

    def watch():
        while not done.wait(0.002):
            seen.append(anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        found = act()
    finally:
        done.set()
        watcher.join()
    return found, max(seen) - before


def load(_, folder, family, method):
    path = Path(folder) / family
    config = ModelConfig(name=str(path), method=method)
    load_base(path, config, "fp32", "cpu", sharded=True)  # imports and first allocations
    base, grown = highest(lambda: load_base(path, config, "fp32", "cpu", sharded=True))
    weights = {name: whole(weight).clone() for name, weight in base.untouched().named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in base.untouched().named_buffers()}
    return weights, buffers, grown


@pytest.mark.parametrize(("family", "method"), [("llama", "full"), ("llama", "lora"), ("gemma", "full")])
def test_16_bit_files_are_read_where_they_are_and_each_part_is_that_of_a_float32_load(
    monkeypatch, tmp_path, family, method
):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # so that what is freed leaves the process at once
    torch.manual_seed(0)
    tokenizer, config = byte_level(), FAMILIES[family]
    config.vocab_size = len(tokenizer)
    AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(tmp_path / family)
    tokenizer.save_pretrained(tmp_path / family)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / family, dtype=torch.float32)
    workers, _ = on_two_workers(tmp_path, load, tmp_path, family, method)
    for weights, buffers, grown in workers:
        for name, weight in expected.named_parameters():
            assert torch.equal(weights[name], weight), name
        for name, buffer in expected.named_buffers():
            assert torch.equal(buffers[name], buffer), name
        float32 = 4 * expected.num_parameters()
        print(family, method, f"{grown / 2**20:.0f} MiB of", f"{float32 / 2**20:.0f}")
        if family == "llama":
            # Half the weights, in bf16 once more to restore a full fine-tune's from, and some layers of the first pass.
            assert grown < {"full": 0.5 + 0.25 + 0.1, "lora": 0.5 + 0.2}[method] * float32
