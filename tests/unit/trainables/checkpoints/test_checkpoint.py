import json

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from trainables.checkpoints.checkpoint import load, save
from trainables.storage.sealed_folder import CheckpointError, read_meta, verify

TOKENS = torch.arange(24).reshape(2, 12)


def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=True, **sizes)).eval()


def adapted(base):
    model = peft.get_peft_model(base, peft.LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # 0 at the start, when the adapter does nothing
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


@pytest.fixture
def saved(tmp_path):
    return save(llama(), tmp_path / "checkpoints" / "step-5", {"step": 5})


def test_a_full_model_loads_with_transformers_and_gives_the_same_logits(saved):
    loaded = AutoModelForCausalLM.from_pretrained(saved)
    assert loaded.dtype == torch.float32
    assert torch.equal(logits(loaded), logits(llama()))


def test_an_adapter_loads_with_peft_and_gives_the_same_logits(tmp_path):
    model = adapted(llama())
    folder = save(model, tmp_path / "step-5", {})
    described = {"adapter_config.json", "meta.json", "checksums.json"}
    assert {path.name for path in folder.glob("*")} == {"adapter_model.safetensors", "COMPLETE", *described}
    loaded = peft.PeftModel.from_pretrained(llama(), folder).eval()
    assert torch.equal(logits(loaded), logits(model))
    assert not torch.allclose(logits(loaded), logits(llama()))


def test_a_checkpoint_verifies_and_remembers_what_it_was_told(saved):
    checksums = verify(saved)
    assert {"model.safetensors", "config.json", "meta.json"} <= checksums.keys()
    assert read_meta(saved) == {"step": 5}
    assert {path.suffix for path in saved.iterdir()} <= {".json", ".safetensors", ""}, "no pickles"


@pytest.mark.parametrize("harm", ["flipped", "missing"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "meta.json", "checksums.json", "COMPLETE"])
def test_a_flipped_byte_and_a_missing_file_are_found(saved, name, harm):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).unlink()
    if harm == "flipped":
        (saved / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        verify(saved)
    with pytest.raises(CheckpointError, match=name):
        load(llama(), saved)


def test_a_later_attempt_replaces_the_checkpoint_whole(saved):
    (saved / "stale.json").write_text("{}")
    save(llama(), saved, {"step": 5, "attempt": 2})
    verify(saved)
    assert read_meta(saved)["attempt"] == 2
    assert not (saved / "stale.json").exists()


def test_what_a_killed_worker_left_is_swept_away(tmp_path):
    left = tmp_path / "step-5.partial"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    verify(save(llama(), tmp_path / "step-5", {}))
    assert [path.name for path in tmp_path.iterdir()] == ["step-5"]


def test_a_failed_save_leaves_the_earlier_checkpoint_and_nothing_else(saved):
    with pytest.raises(TypeError):
        save(llama(), saved, {"step": object()})
    verify(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["step-5"]


def test_the_marker_is_written_when_all_else_is(saved):
    times = {path.name: path.stat().st_mtime_ns for path in saved.iterdir()}
    assert max(times, key=lambda name: times[name]) == "COMPLETE"
    assert json.loads((saved / "checksums.json").read_text()).keys() == times.keys() - {"checksums.json", "COMPLETE"}


@pytest.mark.parametrize("made", [llama, lambda: adapted(llama())], ids=["full", "adapter"])
def test_a_checkpoint_goes_back_into_a_model_with_other_weights(made, tmp_path):
    folder, model = save(made(), tmp_path / "step-5", {}), made()
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.zero_()
    load(model, folder)
    assert torch.equal(logits(model), logits(made()))


def test_weights_of_another_model_are_refused(tmp_path, saved):
    with pytest.raises(CheckpointError, match="not those of the model"):
        load(adapted(llama()), saved)
    with pytest.raises(CheckpointError, match="not those of the model"):
        load(llama(), save(adapted(llama()), tmp_path / "adapter", {}))
