"""`analysis.chat`: both models answer a question, rendered as the sweep's samples were."""

import io
import json

import pytest
import torch

from analysis.chat import main
from tests.unit.analysis.conftest import FakeTrial
from trainables.checkpoints import checkpoint
from trainables.config.sections import LoraConfig, ModelConfig
from trainables.models.base_model import load_base
from trainables.models.tiny_llama import build_tiny_llama


@pytest.fixture
def sweep(write_sweep, tmp_path):
    """One trial with a random adapter far from zero, in a folder as a sweep leaves it."""
    folder = write_sweep([FakeTrial("t1", {10: 0.5})])
    model = ModelConfig(name="random:tiny-llama", method="lora")
    build_tiny_llama(tmp_path / "base")
    base = load_base(tmp_path / "base", model, "fp32", "cpu")
    trained = base.prepare(LoraConfig(), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.5)
    saved = checkpoint.weights_of(trained)
    place = folder / "trials" / "t1" / "checkpoints" / "step-10"
    checkpoint.save_weights(saved, saved.tensors, place, {"trial_id": "t1", "step": 10, "params": {}})
    written = folder / "sweep.yaml"
    written.write_text(written.read_text() + "data: {train: train.jsonl}\n")
    (folder / "manifest.json").write_text(json.dumps({"model_path": str(tmp_path / "base")}))
    return folder


def test_each_question_gets_two_answers(sweep, monkeypatch, capsys):
    loaded = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda *arguments: loaded.append(1) or load(*arguments))
    monkeypatch.setattr("sys.stdin", io.StringIO("What is 1 + 1?\n\nAnd 2 + 2?\n"))
    assert main([str(sweep), "--max-new-tokens", "8"]) == 0
    assert loaded == [1]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["base model", "t1 · 3.0e-4"] * 2
    assert all(
        base.partition(": ")[2] != best.partition(": ")[2] for base, best in zip(lines[::2], lines[1::2], strict=True)
    )


def test_without_a_winner_it_is_one_line(write_sweep, capsys):
    assert main([str(write_sweep([FakeTrial("t1", {}, state="failed")]))]) == 3
    assert capsys.readouterr().err.startswith("error: ")
