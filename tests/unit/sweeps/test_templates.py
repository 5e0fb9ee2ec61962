"""`sweeps.templates`: which template the base model knows best, told only where the intervals do."""

import json

import numpy as np
import pytest
import torch
import yaml

from sweeps.config.sweep_config import load_config
from sweeps.plan.plan import MODELS_CACHE
from sweeps.templates import Losses, main, report, some_samples
from sweeps.templates import losses as losses_under
from tests.unit.sweeps.helpers import SMALL
from trainables.models.base_model import load_base
from trainables.models.pretrained import resolve_model

PLAIN = "{prompt}\n{response}"
IDS = [f"s{i}" for i in range(40)]


def losses(mean, spread=0.0):
    noise = np.random.default_rng(0).normal(0, 1, len(IDS))
    return Losses(dict(zip(IDS, mean + spread * (noise - noise.mean()), strict=True)), {name: name for name in IDS})


@pytest.mark.parametrize(
    ("found", "order", "verdict"),
    [
        ({"a": losses(0.9), "b": losses(0.5), "c": losses(0.7)}, ["b", "c", "a"], "The model knows 'b' best."),
        ({"a": losses(0.9), "b": losses(0.9)}, ["a", "b"], "between 'a' and 'b': take either."),
        ({"a": losses(0.5), "b": losses(0.51, 1), "c": losses(2)}, ["a", "b", "c"], "between 'a' and 'b': take either"),
    ],
)
def test_templates_are_ranked_and_one_is_named_only_where_the_difference_is_clear(found, order, verdict):
    lines = list(report(found, IDS))
    assert [line.split("'")[1] for line in lines[2:-1]] == order
    assert verdict in lines[-1]


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = {"model": {"name": "random:tiny-llama"}, "storage_path": "outputs", "data": {"train": "train.jsonl"}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**SMALL, **own}))
    rows = [{"id": f"s{i}", "prompt": f"What is {i}?", "response": "it is" * (1 + i % 3)} for i in range(12)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "sweep.yaml"


def test_an_untrained_model_is_asked_under_each_template_and_no_folder_is_left(config, tmp_path, capsys):
    (tmp_path / "other.jinja").write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}")
    given = ["--template", "chat", "--template", r"{prompt}\n{response}", "--template", "other.jinja"]
    assert main([config, *given, "--samples", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("untouched base model, 8 samples")
    assert {line.split("'")[1] for line in lines[2:5]} == {"chat", r"{prompt}\n{response}", "other.jinja"}
    assert not (tmp_path / "outputs").exists()


def test_a_loss_is_that_of_the_responses_text_alone(config):
    settings = load_config(config, [])
    base = load_base(resolve_model(settings.model, MODELS_CACHE), settings.model, "fp32", "cpu")
    samples = some_samples(settings, 3)
    found = losses_under(base, settings, samples, PLAIN)
    for sample in samples:
        asked, whole = (base.tokenizer(text).input_ids for text in (f"{sample.prompt}\n", f"{sample.prompt}\nit is"))
        assert sample.response.startswith("it is")
        text = f"{sample.prompt}\n{sample.response}"
        ids = torch.tensor(base.tokenizer(text).input_ids)
        assert ids[: len(whole)].tolist() == whole
        with torch.no_grad():
            logits = base.untouched()(input_ids=ids[None]).logits[0]
        answer = slice(len(asked), None)
        each = torch.nn.functional.cross_entropy(logits[:-1][len(asked) - 1 :], ids[answer], reduction="none")
        total = sum(
            loss for loss, token in zip(each.tolist(), ids[answer], strict=True) if base.tokenizer.decode(token).strip()
        )
        assert found.nats[sample.id] == pytest.approx(total / len(sample.response), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--template", "chat"], "error: --template: must be given 2 to 4 times, got 1 different ones; "),
        (
            ["--template", "chat", "--template", "{prompt}: {response}."],
            "error: --template: must end with {response}, got",
        ),
        (["data.train=none.jsonl"], "error: none.jsonl: data file must exist and be readable"),
    ],
)
def test_what_cannot_be_compared_is_one_line(config, capsys, arguments, line):
    assert main([config, *arguments]) == 2
    assert capsys.readouterr().err.startswith(line)
