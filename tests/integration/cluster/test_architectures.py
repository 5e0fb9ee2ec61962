"""Tiny random models of each family go through a whole trial: train, score, answer, save, load elsewhere."""

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.unit.trainables.models.helpers import FAMILIES
from tests.unit.trainables.training.helpers import Memory, lane, padded_nll, reference, tokenized, trial
from trainables.checkpoints.checkpoint import save
from trainables.config.data_sections import AreaConfig, HeldoutConfig
from trainables.config.sections import ModelConfig
from trainables.evaluation.heldout import score_area, summarize
from trainables.models.base_model import load_base, load_tokenizer, resolve_model
from trainables.storage.sealed_folder import verify
from trainables.training.loop import Loop, TrialRun

NAMES = ["llama", "mistral, sliding", "falcon", "falcon, multi-query", "gpt-neox", "qwen2", "qwen3", "gemma", "gemma2"]
AREA = AreaConfig(path="sums.jsonl", max_new_tokens=4)
HELDOUT = HeldoutConfig(areas={"sums": AREA}, batch_tokens=100, answer_batch_size=2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(resolve_model(ModelConfig(name="random:tiny-llama"), tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def data(tokenizer, tmp_path_factory):
    return tokenized(tmp_path_factory.mktemp("data"), tokenizer, 11)


@pytest.fixture(scope="module")
def items(tokenizer, tmp_path_factory):
    return tokenized(tmp_path_factory.mktemp("data"), tokenizer, 5, seed=1)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", NAMES)
def test_a_whole_trial(family, method, tokenizer, data, items, tmp_path):
    kind, sizes = FAMILIES[family]
    torch.manual_seed(0)
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    AutoModelForCausalLM.from_config(kind(vocab_size=len(tokenizer), **special, **sizes)).save_pretrained(
        tmp_path / "base"
    )
    tokenizer.save_pretrained(tmp_path / "base")
    config = lane(method, checkpoints_at=[1.0])
    base = load_base(str(tmp_path / "base"), config.model, "fp32", torch.device("cpu"))
    expected = reference(tmp_path / "base", base.prepare(config.model.lora, 7).state_dict(), data, trial(), config)
    scores = []

    def on_checkpoint(step, model):
        assert step == 3
        scores.extend(score_area(model, tokenizer, items, "sums", HELDOUT, {}, with_answers=True))
        save(model, tmp_path / "checkpoint", {})

    seen = Memory(on_checkpoint=on_checkpoint)
    outcome = Loop(base).train(TrialRun(data, trial(), config, seen.hooks()))

    assert outcome.state == "complete"
    assert seen.losses == pytest.approx(expected.losses, abs=1e-4)
    assert summarize(scores)["items"] == 5
    assert summarize(scores)["token_f1"] is not None
    verify(tmp_path / "checkpoint")
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path / ("base" if method == "lora" else "checkpoint"), dtype=torch.float32, attn_implementation="eager"
    )
    if method == "lora":
        loaded = peft.PeftModel.from_pretrained(loaded, tmp_path / "checkpoint")
    loaded.eval()
    with torch.no_grad():
        found = [padded_nll(loaded, items, [i]) for i in range(len(items))]
    assert [score.nll for score in scores] == pytest.approx([nll.item() / n[0] for nll, n in found], abs=1e-4)
