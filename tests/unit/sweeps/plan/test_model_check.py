"""`--plan` with tiny models of many kinds: what the model cannot take is one line, what it leaves out a finding."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from sweeps.config.sweep_config import load_config
from sweeps.plan import model_facts
from sweeps.plan.model_facts import inspection
from sweeps.run import main
from tests.unit.sweeps.helpers import SMALL
from tests.unit.trainables.models.adapter.architectures import save_architecture
from trainables.errors import UserError
from trainables.models.meta_model import AdapterFacts, ModelFacts
from trainables.models.tiny_llama import byte_tokenizer

ANSWER = "42, as everybody knows"


@pytest.fixture
def plan(tmp_path, monkeypatch, capsys):
    """Function: exit code, what is printed, and plan.json of a plan with a model of that kind."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("train", 6), ("home", 4)):
        rows = [{"id": f"{name}{i}", "prompt": f"What is {name} {i}?", "response": ANSWER} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def planned(kind, *overrides, tokenizer=None, **special):
        folder = save_architecture(kind, tmp_path / kind, tokenizer or byte_tokenizer(), **special)
        data = {"train": "train.jsonl", "max_tokens": 256}
        own = {"model": {"name": str(folder)}, "storage_path": "outputs", "data": data}
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**SMALL, **own}))
        capsys.readouterr()  # bars of transformers
        code = main(["sweep.yaml", "--plan", *overrides])
        shown, file = capsys.readouterr(), tmp_path / "outputs/small/plan.json"
        return code, shown, json.loads(file.read_text()) if file.is_file() else None

    return planned


FULL = ["model.method=full", "space.peak_lr={low: 0.00001, high: 0.00005}", "space.decay_floor=0.000005"]


@pytest.mark.parametrize(
    ("kind", "special", "overrides", "line"),
    [
        (
            "llama",
            {"vocab_size": 120},
            [],
            "model.name: must have an embedding for each token of the data, got token 223: the tokenizer has 259 "
            "tokens, the model 120 embeddings; ",
        ),
        (
            "gpt2",
            {"n_positions": 40},
            FULL,
            "data.train: must fit into the model's 40 positions, got a sample of 59 tokens; set data.max_tokens=40 ",
        ),
        (
            "gpt2",
            {"n_positions": 60},
            [],
            "heldout.areas.home.max_new_tokens: must fit into the model's 60 positions, got 32 behind a prompt of 34; "
            "lower it to 26",
        ),
        (
            "llama",
            {},
            ["model.lora.target_modules=[query]"],
            "model.lora.target_modules: must name layers of the model ",
        ),
        (
            "llama",
            {},
            ["space.target_modules={choices: [all-linear, [query]]}"],
            "model.lora.target_modules: must name ",
        ),
        ("mamba", {}, ["model.lora.target_modules=[out_proj]"], "model.lora.target_modules: must name layers "),
        (
            "mixtral",
            {},
            ["model.lora.dropout=0.05"],
            "model.lora.dropout: must be 0 for an adapter on experts, got 0.05 ",
        ),
        (
            "jetmoe",
            {},
            ["training.gradient_checkpointing=true"],
            "training.gradient_checkpointing: must be false for a ",
        ),
        ("mixtral", {}, ["space.lora_dropout={low: 0.0, high: 0.1}"], "model.lora.dropout: must be 0 "),
        ("gpt2", {}, ["model.quantize=nf4"], "model.quantize: needs linear layers outside of experts and the output "),
        ("llama", {}, [*FULL, "model.quantize=nf4"], "model.quantize: needs a frozen base: model.method=lora, got nf4"),
        ("llama", {"quantization_config": {"quant_method": "fp8"}}, [], "model.name: must have weights that are not "),
    ],
)
def test_what_the_model_cannot_take_is_one_line(plan, kind, special, overrides, line):
    code, shown, _ = plan(kind, *overrides, **special)
    assert code == 2
    assert f"error: {line}" in shown.err
    assert "Traceback" not in shown.err
    assert all(text.startswith("error: ") for text in shown.err.splitlines())


def test_a_rotary_model_is_warned_of_long_texts(plan):
    code, shown, _ = plan("llama", max_position_embeddings=40)
    assert code == 0
    assert "longer than the 40 positions that the model is made for: data.train (a sample of 59 tokens)" in shown.out
    assert "positions" not in plan("llama", max_position_embeddings=80)[1].out


def test_more_tokens_than_embeddings_are_fine_where_no_sample_has_one(plan):
    """As with Gemma 3, whose tokenizer knows an image's token."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<image>"])
    code, shown, _ = plan("llama", tokenizer=tokenizer, vocab_size=259)
    assert code == 0
    assert "the tokenizer has 260 tokens, the model 259 embeddings" in shown.out


@pytest.mark.parametrize(
    ("kind", "overrides", "trained", "finding"),
    [
        (
            "mamba",
            [],
            None,
            "all-linear adapts 72% of the weights in the model's matrices; no adapter fits mixer.out_proj",
        ),
        ("mamba", ["model.lora.target_modules=[in_proj]"], 2 * 16 * (32 + 128), None),
        ("gpt2", ["model.lora.target_modules=[c_attn]", "model.lora.r=2"], 2 * 2 * (32 + 96), None),
        ("gpt2", ["space.target_modules={choices: [[c_fc], [c_attn]]}", "space.lora_r={low: 2, high: 4}"], 1280, None),
        ("deepseek_v3", [], None, None),
        ("gpt_oss", [], None, None),
        ("llama", FULL, 2 * 259 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 64) + 32, None),
    ],
)
def test_what_is_trained_is_counted_and_what_is_not_adapted_named(plan, kind, overrides, trained, finding):
    code, shown, planned = plan(kind, *overrides)
    assert code == 0, shown.err
    if trained:
        assert planned["trained_parameters"] == trained
    found = [found["message"] for found in planned["findings"] if found["rule"] == "not_adapted"]
    assert len(found) == (finding is not None)
    assert (finding or "") in " ".join(found)


@pytest.mark.parametrize(
    ("kind", "finding"),
    [
        ("llama", None),
        ("mixtral", "these stay in training.precision: mlp.experts.gate_up_proj ("),
    ],
)
def test_what_stays_whole_is_named(plan, kind, finding):
    code, shown, planned = plan(kind, "model.quantize=nf4")
    assert code == 0, shown.err
    found = [found["message"] for found in planned["findings"] if found["rule"] == "not_quantized"]
    assert len(found) == (finding is not None)
    assert (finding or "") in " ".join(found)


FACTS = ModelFacts("GPT", 7, True, 3, None, False, [AdapterFacts(2, 0.5, {"x": 0.5})], 5, {"y": 0.2})


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        (f"import pickle; from trainables.models.meta_model import *; out = {FACTS!r}", FACTS),
        ("import pickle; from trainables.errors import *; out = UserError('here', 'must', 'this', 'do')", "here: must"),
        ("raise SystemExit(7)", "model.name: must be inspected to the end, got exit 7"),
    ],
)
def test_facts_from_another_process_are_kept(tmp_path, monkeypatch, child, expected):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    config = load_config(path, [])
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(model_facts, "CHILD", f"import sys; {child}; sys.stdout.buffer.write(pickle.dumps(out))")
    monkeypatch.setattr(model_facts, "sys", SimpleNamespace(modules={}, path=sys.path, executable=sys.executable))
    with inspection(tmp_path, config, tmp_path / "cache") as wait:
        if isinstance(expected, str):
            with pytest.raises(UserError, match=expected):
                wait()
            assert not (tmp_path / "cache").exists()
            return
        assert wait() == expected
    monkeypatch.setattr(subprocess, "Popen", None)
    with inspection(tmp_path, config, tmp_path / "cache") as wait:
        assert wait() == expected
    (tmp_path / "config.json").write_text('{"other": 1}')
    with pytest.raises(TypeError), inspection(tmp_path, config, tmp_path / "cache"):
        pass
