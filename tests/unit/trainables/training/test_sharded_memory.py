"""What a worker of a sharded full fine-tune holds, by the run without data."""

import pytest
from transformers import LlamaConfig

from trainables.config.memory_request import MemoryRequest
from trainables.config.sections import ModelConfig, TrainingConfig
from trainables.training.memory_run import peak_bytes

WORKERS = 4
# Weights, pristine copy in bf16, two moments, gradient.
STATE = 4 + 2 + 8 + 4


@pytest.fixture
def request_of(tmp_path):
    LlamaConfig(
        vocab_size=64,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    ).save_pretrained(tmp_path)

    def make(workers):
        return MemoryRequest(
            model_path=str(tmp_path),
            model=ModelConfig(name="x", method="full"),
            training=TrainingConfig(),
            precision="bf16",
            workers=workers,
            slots=1,
            samples=1,
            sample_tokens=2,
            label_share=0.5,
            scored_tokens=2,
            prompts=0,
            prompt_tokens=1,
            answer_tokens=1,
        )

    return make


def test_a_worker_holds_its_part_of_the_state_and_some_gathered_layers(request_of):
    alone, sharded = (peak_bytes(request_of(workers)) for workers in (1, WORKERS))
    parameters = alone["parameters"]
    assert sharded["parameters"] == parameters
    held, layer = STATE * parameters / WORKERS, 4 * 256 * 256 + 3 * 256 * 1024
    # At most: two layers gathered in bf16, the gradient of one in bf16, and before and after it was summed in float32.
    most = held + layer * (2 * 2 + 2 + 2 * 4)
    assert held <= sharded["peak_bytes"]["step"] <= 1.05 * most
    assert sharded["peak_bytes"]["step"] < 0.6 * alone["peak_bytes"]["step"]
    assert sharded["peak_bytes"]["scoring"] < sharded["peak_bytes"]["step"]
