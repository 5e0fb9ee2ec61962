"""The forecast of a trial's memory against the peak of a whole trial on the fake GPU, which knows none of its code."""

import json
import subprocess
import sys

import pytest
from transformers import LlamaConfig, Qwen3Config

from tests.unit.trainables.fake_gpu import library
from trainables.config.memory_request import MemoryRequest
from trainables.config.sections import LoraConfig, ModelConfig, TrainingConfig
from trainables.training.memory_run import peak_bytes

HEADS = {"head_dim": 128, "num_key_value_heads": 8, "max_position_embeddings": 40960}
SIZES = {
    "small": (LlamaConfig, 8000, 512, 1408, 1, 8, {"num_key_value_heads": 4, "tie_word_embeddings": False}),
    "qwen3-0.6b": (Qwen3Config, 151936, 1024, 3072, 28, 16, {**HEADS, "tie_word_embeddings": True}),
    "qwen3-1.7b": (Qwen3Config, 151936, 2048, 6144, 28, 16, {**HEADS, "tie_word_embeddings": True}),
    "qwen3-8b": (Qwen3Config, 151936, 4096, 12288, 36, 32, {**HEADS, "tie_word_embeddings": False}),
    "llama-8b": (LlamaConfig, 128256, 4096, 14336, 32, 32, {**HEADS, "tie_word_embeddings": False}),
    "qwen3-32b": (Qwen3Config, 151936, 5120, 25600, 64, 64, {**HEADS, "tie_word_embeddings": False}),
    "llama-70b": (LlamaConfig, 128256, 8192, 28672, 80, 64, {**HEADS, "tie_word_embeddings": False}),
}
METHODS = {"full": {"method": "full"}, "lora": {}, "nf4": {"quantize": "nf4"}}
# Model, method, slots, samples x tokens, recomputing, workers that share the weights out.
QUICK = [
    ("small", "full", 1, 8, 256, False),
    ("small", "lora", 2, 4, 256, True),
    ("small", "nf4", 2, 1, 32, False),  # so short that the weights show
    ("small", "full", 1, 2, 64, False, 4),
    ("small", "lora", 1, 2, 64, True, 4),
]
REAL = [
    ("qwen3-0.6b", "full", 1, 8, 4096, False),
    ("qwen3-0.6b", "lora", 4, 8, 512, False),
    ("qwen3-1.7b", "full", 1, 8, 512, False),
    ("qwen3-1.7b", "full", 1, 8, 4096, True),
    ("qwen3-8b", "lora", 1, 8, 512, False),
    ("qwen3-8b", "lora", 4, 8, 512, False),
    ("qwen3-8b", "lora", 1, 8, 4096, True),
    ("llama-8b", "full", 1, 8, 512, True),
    ("llama-8b", "lora", 1, 8, 4096, False),
    ("qwen3-32b", "lora", 1, 1, 4096, True),
    ("llama-70b", "lora", 1, 1, 512, True),
    ("llama-70b", "lora", 4, 1, 4096, True),
    ("llama-8b", "nf4", 1, 8, 512, True),
    ("llama-70b", "nf4", 1, 1, 4096, True),
    ("llama-8b", "full", 1, 8, 512, False, 8),
    ("llama-8b", "full", 1, 8, 4096, True, 8),
    ("llama-70b", "lora", 1, 8, 512, True, 8),
    ("llama-70b", "lora", 1, 1, 4096, True, 8),
]


def request(folder, size, method, slots, samples, tokens, recompute, workers=1):
    kind, vocabulary, hidden, inner, layers, heads, more = SIZES[size]
    sizes = {"vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": inner, "num_attention_heads": heads}
    kind(**sizes, num_hidden_layers=layers, **more).save_pretrained(folder / size)
    return MemoryRequest(
        model_path=str(folder / size),
        model=ModelConfig(name=size, lora=LoraConfig(r=32), **METHODS[method]),
        training=TrainingConfig(gradient_checkpointing=recompute),
        precision="bf16",
        workers=workers,
        slots=slots,
        samples=samples,
        sample_tokens=tokens,
        label_share=0.5,
        scored_tokens=4096,
        prompts=4,
        prompt_tokens=tokens // 2,
        answer_tokens=2,
    )


def fake_gpu_peaks(asked):
    """Bytes of each trial, from one process of its own."""
    command = [sys.executable, "-m", "tests.unit.trainables.fake_gpu.peaks"]
    text = json.dumps([one.model_dump() for one in asked])
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if "registered at" not in line][-30:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("cases", [QUICK, *(pytest.param([case], marks=pytest.mark.slow) for case in REAL)])
def test_the_forecast_is_within_a_tenth_of_a_whole_trials_peak(cases, tmp_path):
    if reason := library.obstacle():
        pytest.skip(f"no fake GPU: {reason}")
    asked = [request(tmp_path, *case) for case in cases]
    for case, one, peak in zip(cases, asked, fake_gpu_peaks(asked), strict=True):
        found = peak_bytes(one)["peak_bytes"]
        print(*case, {phase: round(size / 2**30, 2) for phase, size in found.items()}, round(peak / 2**30, 2))
        assert max(found.values()) == pytest.approx(peak, rel=0.1)
