"""`sweeps.init`: a config that loads, made after a look at the data; what can't be used is one line."""

import json

import pytest

from sweeps.config.sweep_config import load_config
from sweeps.init import main, parameters_in
from sweeps.plan.lr_bounds import recommended


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{k} + {k}? " + "x" * 700, "response": str(2 * k)} for k in range(30)]
    (tmp_path / "my data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    talk = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "test.jsonl").write_text(json.dumps({"conversations": talk}) + "\n")
    return tmp_path


@pytest.mark.usefixtures("files")
def test_the_config_loads_and_has_what_was_seen(capsys):
    held = ["--heldout", "a/test.jsonl", "b/test.jsonl"]
    assert main(["my data.jsonl", *held, "--model", "HuggingFaceTB/SmolLM2-135M", "--to", "new.yaml"]) == 0
    config = load_config("new.yaml")
    assert (config.name, config.model.name, config.data.max_tokens) == ("my-data", "HuggingFaceTB/SmolLM2-135M", 256)
    assert {name: area.kind for name, area in config.heldout.areas.items()} == {
        "test-1": "in_domain",
        "test-2": "adjacent",
    }
    assert config.space.ends()["peak_lr"] == recommended("lora", 135_000_000).peak_lr
    printed = capsys.readouterr().out
    assert "my data.jsonl: 30 samples (prompt_response 30)" in printed
    assert "a/test.jsonl: 1 samples (sharegpt 1)" in printed
    assert "python -m sweeps.run new.yaml --plan" in printed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["my data.jsonl"], "--heldout: must name held-out samples: they choose the winner, got none; "),
        (["none.jsonl", "--heldout", "a/test.jsonl"], "none.jsonl: "),
        (
            ["bad.jsonl", "--heldout", "a/test.jsonl"],
            "bad.jsonl: must hold samples, got 1 lines",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(files, capsys, arguments, line):
    (files / "bad.jsonl").write_text('{"a": 1}\n')
    assert main([*arguments, "--to", "new.yaml"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")
    assert not (files / "new.yaml").exists()


def test_a_config_is_never_written_over(files, capsys):
    (files / "mine.yaml").write_text("name: mine\n")
    assert main(["my data.jsonl", "--heldout", "a/test.jsonl", "--to", "mine.yaml"]) == 2
    assert (files / "mine.yaml").read_text() == "name: mine\n"
    assert "must not exist yet, got a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen3-8B", 8e9),
        ("x/SmolLM2-135M-Instruct", 135e6),
        ("x/Qwen2.5-0.5B", 5e8),
        ("gpt2", None),
        ("bert4b", None),
    ],
)
def test_a_models_name_may_state_its_size(name, parameters):
    assert parameters_in(name) == parameters
