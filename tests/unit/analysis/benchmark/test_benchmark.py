"""The command on real models: the sweep's own scores again, each model once, other tokenizers in bits a byte."""

import json
import math
import re
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from analysis.benchmark import scoring
from analysis.benchmark.__main__ import main
from analysis.benchmark.fixed_areas import FixedAreas, read_areas
from analysis.benchmark.model import Model
from analysis.benchmark.storage import Files, latest
from analysis.benchmark.sweep_checkpoints import SweepCheckpoints
from analysis.export import export
from analysis.export.sweep_models import SweepModels
from analysis.rank.leaderboard import leaderboard
from analysis.records.sweep import read_sweep
from tests.object_store_helpers import in_memory
from trainables.config.data_sections import AreaConfig, HeldoutConfig
from trainables.data.samples import Sample
from trainables.errors import UserError, UserErrors
from trainables.models.tiny_llama import build_tiny_llama

OLD = Path(__file__).parents[3] / "data" / "sweep_of_0_1"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "base"
    folder.mkdir()
    build_tiny_llama(folder)
    return folder


@pytest.fixture
def sweep(tmp_path, base):
    """A sweep of version 0.1 with two trials' checkpoints and the scores that it gave them."""
    folder = shutil.copytree(OLD, tmp_path / "outputs" / "cut")
    for name in ("plan.json", "manifest.json"):
        file = folder / name
        file.write_text(file.read_text().replace("MODEL_PATH", str(base)))
    return folder


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command on the test's storage; gives what it printed as JSON, and its progress."""

    def run(*arguments):
        code = main(["bench", "--storage", str(tmp_path / "outputs"), "--json", *map(str, arguments)])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return json.loads(printed.out), printed.err

    return run


def write_items(path, rows):
    path.write_text("".join(json.dumps({"id": f"i{k}", **row}) + "\n" for k, row in enumerate(rows)))
    return path


def uniform(folder, source=None, vocabulary=None, tokenizer=None):
    """A model that gives every token the same probability."""
    if source:
        shutil.copytree(source, folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
    else:
        shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **shape, eos_token_id=0, pad_token_id=0))
        tokenizer.save_pretrained(folder)
    torch.nn.init.zeros_(model.lm_head.weight)
    model.save_pretrained(folder)
    return folder


def test_a_winner_has_the_sweeps_own_scores_and_is_scored_once(sweep, run):
    found, progress = run("--areas", sweep, "--models", sweep, f"{sweep}:base", f"{sweep}:t0002:8")
    rows, board = {row["model"]: row for row in found["models"]}, leaderboard(sweep)
    own = {row["trial_id"]: row["objective"] for row in board["rows"]}
    assert rows["cut:t0001:8"]["score"] == pytest.approx(own["t0001"], abs=1e-6)
    assert rows["cut:t0002:8"]["score"] == pytest.approx(own["t0002"], abs=1e-6)
    assert rows["cut:base"]["score"] == pytest.approx(board["baseline"]["objective"], abs=1e-6)
    assert found["models"][0]["model"] == "cut:t0001:8"
    assert progress.count("items") == 6
    again, progress = run("--areas", sweep, "--models", f"{sweep}:all")
    assert again["benchmark"] == found["benchmark"]
    assert "items" not in progress
    assert progress.count("scored already") == 2
    shown, _ = run("show", "--answers", "cut:base", "cut:t0001:8", "--pin", "tables/tables-01-3")
    assert shown["models"] == again["models"]
    heldout = [json.loads(line) for line in (sweep / "trials/t0001/heldout.jsonl").read_text().splitlines()]
    answered = {(one["area"], one["id"]): one for one in heldout if one["step"] == 8}
    assert len(shown["answers"]) == len(answered) == 24
    for item in shown["answers"]:
        before = answered[item["area"], item["id"]]
        assert item["answers"][1]["answer"] == before["answer"]
        assert item["answers"][1]["nll"] == pytest.approx(before["nll"], abs=1e-5)
    assert {line["model"] for line in shown["pins"]["tables/tables-01-3"]} == set(rows)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (":t0009", "--models {}:t0009: must be a trial of this sweep, got t0009; did you mean t000"),
        (":t0001:9", "--models {}:t0001:9: must be a checkpoint of t0001, got 9; one of 8"),
        (":t0001:x", "--models: must name a step by its number, or all, got x; write SWEEP:TRIAL:STEP"),
        (":t0001:4", "t0001 step 4: must be a checkpoint that the sweep kept, got one that it dropped"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_one_line(sweep, tmp_path, capsys, name, message):
    items = write_items(tmp_path / "q.jsonl", [{"prompt": "a", "response": "b"}])
    arguments = ["x", "--storage", str(tmp_path), "--areas", str(items), "--models", f"{sweep}{name}"]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(sweep) in line


@pytest.mark.parametrize(("written", "learnt"), [("", True), ("  train_on_template_text: false\n", False)])
def test_a_sweep_that_lacks_the_key_is_rendered_as_it_was(sweep, written, learnt):
    config = sweep / "sweep.yaml"
    config.write_text(config.read_text().replace("\ndata:\n", f"\ndata:\n{written}"))
    assert SweepModels(read_sweep(sweep)).data.train_on_template_text is learnt


@pytest.mark.parametrize("merge", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_export_ties_with_its_checkpoint(sweep, run, tmp_path, merge):
    export(sweep, tmp_path / "out", merge=merge, verify=False)
    found, _ = run("--areas", sweep, "--models", sweep, tmp_path / "out", "--precision", "fp32")
    first, second = found["models"]
    assert {first["model"], second["model"]} == {"cut:t0001:8", str(tmp_path / "out")}
    assert second["score"] == pytest.approx(first["score"], abs=1e-5)
    assert second["tied"]


def test_a_planted_better_model_is_found_and_a_copy_ties(tmp_path, base, run):
    items = write_items(tmp_path / "q.jsonl", [{"prompt": f"{k} plus {k}?", "response": str(2 * k)} for k in range(30)])
    copy = shutil.copytree(base, tmp_path / "copy")
    (copy / "README.md").write_text("another name")
    better = uniform(tmp_path / "better", base)
    found, progress = run("--areas", items, "--models", base, copy, better, "--precision", "fp32")
    rows = {Path(row["model"]).name: row for row in found["models"]}
    assert found["metric"] == "nll"
    assert rows["better"]["rank"] == 1
    assert rows["better"]["score"] == pytest.approx(math.log(259), abs=1e-5)
    assert not rows["base"]["tied"]
    assert rows["copy"]["score"] == rows["base"]["score"]
    assert progress.count("items") == 2, "the copy's weights are scored already"
    better.rename(tmp_path / "gone")
    shown, _ = run("show", "--metric", "bits_per_byte")
    assert [row["rank"] for row in shown["models"]] == [1, 2, 3]
    two, _ = run("--areas", items, "--models", copy, "--precision", "fp32")
    assert not any(row["tied"] for row in two["models"]), "behind the first, both are worse"


def letters_tokenizer(pairs):
    """A token for each of four letters, or for each pair of them; unused tokens fill the vocabulary."""
    letters = "abcd"
    vocabulary = {"<eos>": 0, "=": 1, **{letter: place for place, letter in enumerate(letters, start=2)}}
    merges = [(a, b) for a in letters for b in letters] if pairs else []
    vocabulary |= {a + b: len(vocabulary) + place for place, (a, b) in enumerate(merges)}
    inner = Tokenizer(models.BPE(vocabulary, merges))
    inner.pre_tokenizer = pre_tokenizers.Split("=", "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<eos>")


def test_bits_a_byte_are_equal_for_two_tokenizers_in_closed_form(tmp_path, run):
    """Four letters and the end: 5 tokens of 6 bits, or 3 tokens of 10 bits; 30 bits for 4 bytes either way."""
    items = write_items(tmp_path / "q.jsonl", [{"prompt": "ab", "response": r} for r in ("abcd", "dcba", "aabb")])
    models = [
        uniform(tmp_path / f"vocabulary-{size}", None, size, letters_tokenizer(pairs))
        for size, pairs in ((64, False), (1024, True))
    ]
    found, _ = run("--areas", items, "--models", *models, "--template", "{prompt}={response}", "--precision", "fp32")
    assert found["metric"] == "bits_per_byte"
    assert [row["score"] for row in found["models"]] == pytest.approx([7.5, 7.5], abs=1e-5)
    assert found["models"][1]["tied"]
    losses, _ = run("show", "--metric", "nll")
    assert {round(row["score"], 4) for row in losses["models"]} == {round(math.log(64), 4), round(math.log(1024), 4)}


def test_a_text_that_is_read_in_windows_is_one_item(tmp_path, base, run):
    text = "A plain text of many words. " * 90
    items = write_items(tmp_path / "t.jsonl", [{"text": text}, {"text": "Short."}, {"text": "Shorter"}])
    uniform(tmp_path / "even", base)
    found, _ = run("--areas", f"texts={items}", "--models", tmp_path / "even", "--precision", "fp32")
    assert found["models"][0]["areas"] == {"texts": pytest.approx(math.log(259), abs=1e-4)}
    bits, _ = run("show", "--metric", "bits_per_byte", "--answers")
    assert bits["models"][0]["score"] == pytest.approx(math.log2(259), abs=1e-4), "a byte a token"
    assert len(bits["answers"]) == 3


@pytest.fixture
def fixed(tmp_path):
    """A storage with a benchmark of two areas of one item, and a model that counts how often it is asked."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    areas = {name: AreaConfig(path=name) for name in ("a", "b")}
    samples = {name: [Sample("i", turns, {}, 1)] for name in areas}
    files = Files(str(tmp_path))
    areas = FixedAreas("bench", HeldoutConfig(areas=areas), samples)
    return files, scoring.fix(files, areas), areas


@pytest.mark.parametrize("change", [{"model": {"quantize": "nf4"}}, {"data": {"train_on_template_text": False}}])
def test_the_key_names_all_that_the_scores_depend_on(sweep, change):
    (before,) = SweepCheckpoints(sweep).models("base", None)
    config = yaml.safe_load((sweep / "sweep.yaml").read_text())
    for section, values in change.items():
        config[section] = {**(config.get(section) or {}), **values}
    (sweep / "sweep.yaml").write_text(yaml.safe_dump(config))
    (after,) = SweepCheckpoints(sweep).models("base", None)
    assert before.key != after.key


def counted(monkeypatch, fail_on=None, wait=None):
    asked = []

    def results(_areas, area, _model, _loaded):
        asked.append(area)
        if wait:
            wait.wait(10)
        if area == fail_on:
            raise KeyboardInterrupt
        return {"tokens_sha256": "x", "items": []}

    monkeypatch.setattr(scoring, "_results", results)
    return asked


def test_a_command_that_was_killed_goes_on_with_the_next_area(fixed, monkeypatch):
    files, name, areas = fixed
    model = Model("m", "m", "key", load=lambda: "loaded")
    counted(monkeypatch, fail_on="b")
    with pytest.raises(KeyboardInterrupt):
        scoring._score(files, name, areas, model, lambda _: None)
    assert not files.names(f"{name}/models")
    asked = counted(monkeypatch)
    scoring._score(files, name, areas, model, lambda _: None)
    assert asked == ["b"]
    assert len(files.names(f"{name}/models")) == 1


def test_of_two_writers_one_waits_and_nothing_is_scored_twice(fixed, monkeypatch):
    files, name, areas = fixed
    model, second = Model("m", "m", "key", load=lambda: "loaded"), threading.Event()
    asked = counted(monkeypatch, wait=second)
    threads = [
        threading.Thread(target=scoring._score, args=(files, name, areas, model, lambda _: None)) for _ in range(2)
    ]
    threads[0].start()
    deadline = time.monotonic() + 20
    while not asked and time.monotonic() < deadline:
        time.sleep(0.01)
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive()
    assert asked == ["a"], "the other waits"
    second.set()
    for thread in threads:
        thread.join(20)
    assert [thread.is_alive() for thread in threads] == [False, False]
    assert sorted(asked) == ["a", "b"]


def test_a_storage_in_an_object_store_keeps_what_is_there(monkeypatch, fixed):
    _, name, areas = fixed
    files = Files("s3://bucket/memory")
    files._remote = in_memory()
    assert scoring.fix(files, areas) == scoring.fix(files, areas) == latest(files, "bench") == name
    asked, models = counted(monkeypatch), [Model(label, label, "key", load=lambda: "loaded") for label in ("m", "copy")]
    for model in models:
        scoring._score(files, name, areas, model, lambda _: None)
    assert asked == ["a", "b"]
    files.create(f"{name}/scores/key/a.json", {"another": "writer"})
    assert files.read(f"{name}/scores/key/a.json") == {"tokens_sha256": "x", "items": []}
    assert len(files.names(f"{name}/models")) == 2


def test_areas_have_a_hash_of_all_that_is_asked(fixed, tmp_path):
    files, name, areas = fixed
    again = scoring.fixed(files, name)
    assert (again.full_name, again.to_json()) == (name, areas.to_json())
    assert again.samples["a"][0].messages == areas.samples["a"][0].messages
    longer = AreaConfig(path="elsewhere", max_new_tokens=99)
    other = FixedAreas("bench", HeldoutConfig(areas={**areas.heldout.areas, "a": longer}), areas.samples)
    assert other.full_name != name
    moved = AreaConfig(path="elsewhere")
    turned = HeldoutConfig(areas={"b": areas.heldout.areas["b"], "a": moved})
    same = FixedAreas("bench", turned, areas.samples)
    assert same.full_name == name
    file = tmp_path / ".benchmarks" / name / "benchmark.json"
    file.write_text(file.read_text().replace("!", "?"))
    with pytest.raises(UserError, match="must hold the items that its hash names"):
        scoring.fixed(files, name)


def test_the_starter_pack_asks_120_items_in_five_areas():
    pack = read_areas("kept", ["forgetting"], None)
    assert sorted(pack.samples) == ["arithmetic", "facts", "instructions", "language", "reading"]
    assert {len(items) for items in pack.samples.values()} == {24}
    assert len({item.meta["group"] for item in pack.samples["reading"]}) == 12


def test_defects_of_the_items_are_named_line_by_line(tmp_path):
    items = write_items(tmp_path / "q.jsonl", [{"prompt": "a", "response": "b"}, {"prompt": "c"}])
    with pytest.raises(UserErrors, match=r"q\.jsonl line 2: "):
        read_areas("x", [str(items)], None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "show"], "NAME: must be a benchmark of this storage, got none; fix its areas first"),
        (["a/b", "show"], "NAME: must be letters"),
        (["show"], "NAME: must be one name"),
        (["x", "y"], "NAME: must be one name"),
        (["x", "show", "--models", "m"], "show: shows what was scored"),
        (["x", "--areas", "gone.jsonl"], "gone.jsonl: data file must exist"),
        (["x", "--areas", "q.jsonl", "q.jsonl"], "--areas: must name an area once, got q"),
        (["x", "--areas", "c.yaml"], "--areas c.yaml: must be a config with heldout.areas"),
        (["x", "--areas", "own.yaml"], "must have scorers of this program"),
        (["x", "--areas", "q.jsonl", "--models", "./nowhere"], "--models ./nowhere: must be a model that exists"),
        (["x", "--areas", "q.jsonl", "--max-new-tokens", "0"], "--max-new-tokens: must be 1 or more"),
        (["x", "--areas", "q.jsonl", "--storage", "q.jsonl"], "--storage: must be a folder or URL"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path / "q.jsonl", [{"prompt": "a", "response": "b"}])
    (tmp_path / "c.yaml").write_text("name: x\n")
    (tmp_path / "own.yaml").write_text("heldout: {areas: {q: {path: q.jsonl, scorers: ['mine:score']}}}\n")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert re.fullmatch(r"error: .+: .+, got .+; .+", line)
