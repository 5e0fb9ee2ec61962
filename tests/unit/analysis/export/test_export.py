"""Exports of a tiny random Llama: they load with peft and transformers and compute what was trained."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from analysis.cli import NoWinnerError
from analysis.export import reload, verification
from analysis.export.__main__ import main
from analysis.export.checkpoint_choice import base_model, choose
from analysis.export.export import export, heldout_items
from analysis.export.verification import AreaMeans, Parity, compare_logits
from analysis.rank.leaderboard import leaderboard
from analysis.records.sweep import read_sweep
from tests.unit.analysis.conftest import FakeTrial
from trainables.checkpoints import checkpoint
from trainables.data.dataset import TokenizedSet
from trainables.data.samples import Sample
from trainables.data.tokenization import tokenize
from trainables.errors import UserError
from trainables.evaluation.heldout import item_losses
from trainables.models.layers.nf4 import quantize

ROOT = Path(__file__).parents[4]
IDS = torch.tensor([[5, 9, 200, 31, 7, 7, 64]])


@pytest.fixture(autouse=True)
def reloaded_here(request, monkeypatch):
    """Loads an export in this process: a fresh one costs five seconds, and three tests see what it does."""
    if request.node.get_closest_marker("fresh_process"):
        return

    def run(command, **_):
        assert command[1:3] == ["-m", "analysis.export.reload"]
        reload.main([*map(str, command[3:])])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(verification, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    """A random two-layer Llama with a byte-level tokenizer, a chat template and a generation config."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<eos>": 0, **{c: i for i, c in enumerate(alphabet, start=1)}}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")
    fast.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=257, **shape, eos_token_id=0, pad_token_id=0, bos_token_id=None))
    model.generation_config.max_new_tokens = 17
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def lora_sweep(write_sweep, base_folder):
    """Two trials with random, far from zero adapters; `t1` wins at step 10."""
    folder = write_sweep([FakeTrial("t1", {5: 0.2, 10: 0.5}), FakeTrial("t2", {10: 0.3})])
    for seed, (trial, step) in enumerate([("t1", 5), ("t1", 10), ("t2", 10)]):
        torch.manual_seed(seed)
        settings = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}  # as the sweep writes them
        config = LoraConfig(r=4, lora_alpha=32, init_lora_weights=False, **settings)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base_folder), config)
        checkpoint.save(model, folder / f"trials/{trial}/checkpoints/step-{step}", {"step": step})
    write_manifest(folder, base_folder)
    return folder


@pytest.fixture
def full_sweep(write_sweep, base_folder):
    folder = write_sweep([FakeTrial("t1", {10: 0.5})], model={"name": "x", "method": "full"})
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    with torch.no_grad():
        model.lm_head.weight.add_(0.1)
    checkpoint.save(model, folder / "trials/t1/checkpoints/step-10", {})
    write_manifest(folder, base_folder)
    return folder


def edit_lines(path, change):
    """Changes every record of a JSON Lines file in place."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_manifest(folder, base, **more):
    (folder / "manifest.json").write_text(json.dumps({"model_path": str(base), **more}))


@torch.inference_mode()
def logits(model):
    return model.eval()(input_ids=IDS).logits


def refused(message, sweep, out, *arguments, **options):
    """Exports, which must fail with this message and write nothing."""
    before = out.exists()
    with pytest.raises(UserError, match=message):
        export(sweep, out, *arguments, **options)
    assert out.exists() == before


def trained(sweep, base, trial="t1", step=10):
    model = AutoModelForCausalLM.from_pretrained(base)
    return logits(PeftModel.from_pretrained(model, str(sweep / f"trials/{trial}/checkpoints/step-{step}")))


def test_the_winners_adapter_loads_with_peft_and_with_the_base_models_tokenizer(lora_sweep, base_folder, tmp_path):
    out = tmp_path / "deep" / "out"
    done = export(lora_sweep, out)
    assert (done.trial_id, done.step, done.kind) == ("t1", 10, "adapter")
    assert done.parity.largest_deviation < 1e-5
    assert "no " in (done.parity.not_recomputed or "")
    torch.testing.assert_close(logits(AutoPeftModelForCausalLM.from_pretrained(out)), trained(lora_sweep, base_folder))
    plain = AutoModelForCausalLM.from_pretrained(out)  # transformers finds the adapter's base by itself
    torch.testing.assert_close(logits(plain), trained(lora_sweep, base_folder))
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base_folder)
    assert not (out / "COMPLETE").exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert json.loads((out / "generation_config.json").read_text())["max_new_tokens"] == 17
    ours, theirs = AutoTokenizer.from_pretrained(out), AutoTokenizer.from_pretrained(base_folder)
    chat = [{"role": "user", "content": "Total of 3 and 4, in €?"}]
    expected = theirs.apply_chat_template(chat, return_dict=False)
    assert ours.apply_chat_template(chat, return_dict=False) == expected
    assert len(expected) > 20


def test_a_merge_loads_with_plain_transformers_and_is_the_same_function(lora_sweep, base_folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is fine
    done = export(lora_sweep, out, merge=True)
    assert done.kind == "merged"
    assert done.parity.largest_deviation < 1e-4
    assert done.parity.positions > 50
    assert not (out / "adapter_config.json").exists()
    assert {value.dtype for value in load_file(out / "model.safetensors").values()} == {torch.float32}
    assert (out / "model.safetensors").stat().st_mode == (out / "config.json").stat().st_mode
    merged, expected = logits(AutoModelForCausalLM.from_pretrained(out)), trained(lora_sweep, base_folder)
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    assert (expected - logits(AutoModelForCausalLM.from_pretrained(base_folder))).abs().max() > 0.1
    assert json.loads((out / "generation_config.json").read_text())["max_new_tokens"] == 17


def test_a_merge_that_deviates_is_refused_with_the_figures_and_leaves_nothing(lora_sweep, tmp_path, monkeypatch):
    def merge_and_spoil(self):
        merged = self.base_model.merge_and_unload()
        with torch.no_grad():
            merged.model.layers[1].mlp.down_proj.weight[3].mul_(1.5)
        return merged

    monkeypatch.setattr(PeftModel, "merge_and_unload", merge_and_spoil, raising=False)
    deviates = r"must equal the trained one, got logits differ \(max diff [\d.e-]+, limit 0\.000\d+, "
    refused(f"the reloaded model {deviates}", lora_sweep, tmp_path / "out", merge=True)
    assert not list(tmp_path.glob(".out*"))


@pytest.fixture
def scored_sweep(lora_sweep, base_folder):
    """`lora_sweep` with tokenized areas, and `t1`'s losses at step 10 as the sweep's own scoring finds them."""
    return scored(lora_sweep, base_folder, AutoModelForCausalLM.from_pretrained(base_folder))


@pytest.fixture
def nf4_sweep(lora_sweep, base_folder):
    """As `scored_sweep`, trained on the base model in 4 bits."""
    config = yaml.safe_load((lora_sweep / "sweep.yaml").read_text())
    config["model"]["quantize"] = "nf4"
    (lora_sweep / "sweep.yaml").write_text(yaml.safe_dump(config))
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    quantize(model, torch.device("cpu"))
    return scored(lora_sweep, base_folder, model)


def scored(lora_sweep, base_folder, base):
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    model = PeftModel.from_pretrained(base, str(lora_sweep / "trials/t1/checkpoints/step-10")).eval()
    (lora_sweep / "cache").mkdir()
    losses = {}
    for area in ("invoices", "tables"):
        turns = [("user", "What is the total?"), ("assistant", "It is 12.")]
        samples = [
            Sample(f"{area}-{k}", [{"role": role, "content": f"{text} ({k})"} for role, text in turns], {}, k + 1)
            for k in range(5)
        ]
        path = lora_sweep / "cache" / f"heldout-{area}.arrow"
        tokenize(samples, tokenizer, "{prompt}\nAnswer: {response}", 256, path)
        items = TokenizedSet(path)
        losses |= {(area, one): loss.nll for one, loss in zip(items.ids, item_losses(model, items, 512), strict=True)}
    assert len(losses) == 10

    def score(item):
        if item["step"] == 10:
            item["nll"] = losses.get((item["area"], item["id"]), item["nll"])

    edit_lines(lora_sweep / "trials/t1/heldout.jsonl", score)
    return lora_sweep


@pytest.mark.fresh_process
@pytest.mark.parametrize("merge", [False, True])
def test_held_out_losses_are_recomputed_in_a_fresh_process(scored_sweep, tmp_path, merge):
    done = export(scored_sweep, tmp_path / "out", "t1", 10, merge=merge)
    assert set(done.parity.heldout) == {"invoices", "tables"}
    assert done.parity.heldout_difference < 1e-4
    assert done.parity.recorded_difference < 1e-4
    card = (tmp_path / "out" / "README.md").read_text()
    assert (
        f"Reloaded in a fresh process with `transformers` and compared with the trained model: {done.parity}." in card
    )


@pytest.mark.parametrize(("all_items", "compared"), [(False, (6, 10)), (True, (10, 10))])
def test_some_items_are_recomputed_and_all_where_asked(scored_sweep, tmp_path, monkeypatch, all_items, compared):
    monkeypatch.setitem(export.__globals__, "ITEMS_EACH", 3)
    parity = export(scored_sweep, tmp_path / "out", "t1", 10, all_items=all_items).parity
    assert parity.compared == compared
    assert ("held-out losses on 6 of 10 items: max diff " in str(parity)) is not all_items
    assert parity.recorded_difference < 1e-4


def ignore_interrupts():
    """As a shell does for a command in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.fresh_process
@pytest.mark.parametrize("signal_number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_stopped_export_leaves_nothing_behind(lora_sweep, tmp_path, signal_number):
    arguments = [sys.executable, "-m", "analysis.export", str(lora_sweep), "--to", str(tmp_path / "deep" / "out")]
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "TMPDIR": str(scratch)},
        preexec_fn=ignore_interrupts if signal_number == signal.SIGTERM else None,
    ) as process:  # fmt: skip
        for line in process.stderr:
            if "in a fresh process" in line:
                time.sleep(0.5)
                process.send_signal(signal_number)
                break
        assert process.wait(60) == 130
    assert not (tmp_path / "deep").exists()
    assert list(scratch.iterdir()) == []


def test_an_adapter_of_a_base_in_4_bits_is_that_of_peft_and_bitsandbytes(nf4_sweep, tmp_path):
    done = export(nf4_sweep, tmp_path / "out", "t1", 10)
    assert done.parity.holds
    assert done.parity.heldout_difference < 1e-5
    assert done.parity.recorded_difference < 1e-5
    # The slow sweep runs the card's code: bitsandbytes' kernel for CPUs takes no layer of 32 features.
    assert "quantization_config=nf4" in (tmp_path / "out" / "README.md").read_text()


def test_it_is_merged_into_the_weights_from_before_and_says_what_that_changes(nf4_sweep, base_folder, tmp_path):
    done = export(nf4_sweep, tmp_path / "out", "t1", 10, merge=True)
    merged, expected = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), trained(nf4_sweep, base_folder)
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    assert done.parity.holds
    assert done.parity.heldout_difference < 1e-4
    shift = max((means.exported - means.recorded for means in done.parity.heldout.values()), key=abs)
    assert done.parity.shift == shift
    assert 1e-3 < abs(shift) < 0.5
    said = f"{shift:+.2g} at most to the sweep's (auto, before the merge, in 4 bits)"
    assert said in str(done.parity)
    assert said in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(("precision", "passes"), [("fp32", False), ("bf16", True), (None, True)])
def test_the_limit_is_that_of_the_precision_which_auto_became(scored_sweep, precision, passes):
    edit_lines(scored_sweep / "trials.jsonl", lambda trial: trial.update(precision=precision))
    sweep, board = read_sweep(scored_sweep), leaderboard(scored_sweep)
    items = heldout_items(sweep, choose(board, "t1", 10, []))
    means = AreaMeans(recorded=1.0, trained=1.005, exported=1.005)
    differs = Parity(0.0, 1.0, 1.0, 1, {"tables": means}, items.precision)
    assert differs.holds is passes
    assert replace(differs, heldout={"tables": means._replace(recorded=0.98)}).holds is False


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("exported", "passes"), [(1.00009, True), (1.0002, False), (float("nan"), False)])
def test_the_exported_model_scores_as_the_trained_one_whatever_the_precision(precision, exported, passes):
    parity = Parity(0.0, 1.0, 1.0, 1, {"tables": AreaMeans(1.0, 1.0, exported)}, precision)
    assert parity.holds is passes


def test_held_out_losses_that_are_not_what_was_recorded_are_refused(scored_sweep, tmp_path):
    with (scored_sweep / "sweep.yaml").open("a") as file:
        file.write("training: {precision: fp32}\n")
    items = scored_sweep / "trials/t1/heldout.jsonl"
    edit_lines(items, lambda item: item.update(nll=item["nll"] + 0.01 * (item["area"] == "tables")))
    message = r"0\.01 to the sweep's \(fp32, limit 0\.0001\)"
    refused(message, scored_sweep, tmp_path / "out", "t1", 10)


@pytest.mark.parametrize(("value", "passes"), [(0.0, True), (2e-4, True), (4e-4, False), (float("nan"), False)])
def test_parity_is_held_against_a_ten_thousandth_of_the_scale(value, passes):
    before = torch.tensor([[0.5, -3.0], [1.0, 2.0]])
    after = before.clone()
    after[0, 1] += value
    parity = compare_logits([before], [after])
    assert parity.holds is passes
    assert (parity.largest_logit, parity.positions) == (3.0, 2)
    assert compare_logits([before], [before.flip(-1)]).same_top == 0.0


def test_a_full_fine_tune_loads_with_plain_transformers(full_sweep, tmp_path):
    done = export(full_sweep, tmp_path / "out")
    assert done.kind == "full"
    source = AutoModelForCausalLM.from_pretrained(full_sweep / "trials/t1/checkpoints/step-10")
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), logits(source))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    refused("needs a LoRA adapter", full_sweep, tmp_path / "merged", merge=True)


@pytest.mark.parametrize(
    ("trial", "step", "expected"), [(None, 5, ("t1", 5)), ("t2", None, ("t2", 10)), ("t1", 5, ("t1", 5))]
)
def test_a_named_checkpoint_of_a_moved_sweep_is_exported(lora_sweep, base_folder, tmp_path, trial, step, expected):
    moved = lora_sweep.rename(tmp_path / "moved")
    done = export(moved, tmp_path / "out", trial, step, verify=False)
    assert (done.trial_id, done.step) == expected
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(loaded), trained(moved, base_folder, *expected))


@pytest.mark.parametrize(
    ("trial", "step", "message"),
    [
        ("t1x", None, "--trial: must be a trial of this sweep, got t1x; did you mean t1?"),
        ("other", None, "--trial: must be a trial of this sweep, got other; one of t1, t2"),
        ("t1", 7, "--step: must be a checkpoint of t1, got 7; one of 5, 10"),
    ],
)
def test_a_name_that_is_not_there_is_a_user_error(lora_sweep, tmp_path, trial, step, message):
    refused(re.escape(message), lora_sweep, tmp_path / "out", trial, step, verify=False)


def test_a_trial_without_rank_needs_its_step_named(write_sweep, tmp_path):
    folder = write_sweep([FakeTrial("t1", {9: 0.3}), FakeTrial("t2", {5: 0.3}, state="pruned")])
    refused(r"--step: must be given, for t2 \(pruned\) has no rank.*one of 5", folder, tmp_path / "out", "t2")


def test_a_damaged_checkpoint_is_refused(lora_sweep, tmp_path):
    path = lora_sweep / "trials/t1/checkpoints/step-10/adapter_model.safetensors"
    weights = load_file(path)
    next(iter(weights.values()))[0, 0] += 1
    save_file(weights, path)
    refused("step-10: must be a checkpoint as it was written, got adapter_model", lora_sweep, tmp_path / "out")
    (path.parent / "COMPLETE").unlink()
    refused("COMPLETE", lora_sweep, tmp_path / "out")
    shutil.rmtree(path.parent)
    refused("must have a checkpoint folder", lora_sweep, tmp_path / "out")


def test_of_a_checkpoint_that_was_dropped_it_is_said_what_there_is_instead(lora_sweep, tmp_path):
    shutil.rmtree(lora_sweep / "trials/t1/checkpoints/step-5")

    def drop(trial):
        for point in trial["checkpoints"]:
            point["kept"] = (trial["trial_id"], point["step"]) != ("t1", 5)

    edit_lines(lora_sweep / "trials.jsonl", drop)
    message = (
        "t1 step 5: must be a checkpoint that the sweep kept, got one that it dropped (resources.keep_checkpoints); "
        "one of 10"
    )
    refused(f"^{re.escape(message)}$", lora_sweep, tmp_path / "out", "t1", 5)
    # Steps that were never there are answered with the same list.
    refused("--step: must be a checkpoint of t1, got 7; one of 10$", lora_sweep, tmp_path / "out", "t1", 7)
    assert export(lora_sweep, tmp_path / "out", verify=False).step == 10  # its scores rank on


def test_out_must_be_free(lora_sweep, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for name, got in (("full", "a folder with files in it"), ("file", "a file")):
        refused(f"must not exist or be an empty folder, got {got}", lora_sweep, tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_base_model_that_is_gone_is_found_as_a_resume_finds_it(lora_sweep, base_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainables.models.pretrained._built", lambda name, cache: base_folder)
    write_manifest(lora_sweep, tmp_path / "gone")
    assert base_model(read_sweep(lora_sweep)).folder == base_folder


def test_a_base_model_that_is_nowhere_or_another_is_refused(lora_sweep, base_folder, tmp_path):
    write_manifest(lora_sweep, tmp_path / "gone")
    sweep = lora_sweep / "sweep.yaml"
    sweep.write_text(sweep.read_text().replace("random:tiny-llama", "./nowhere"))
    refused(r"no model at .*gone .*got ./nowhere, where nothing is", lora_sweep, tmp_path / "out")
    for part, name in (("model_files_sha256", "config.json"), ("model_sha256", "other.safetensors")):
        write_manifest(lora_sweep, base_folder, **{part: {name: "0" * 64}})
        refused(f"another sha256 for {name}", lora_sweep, tmp_path / "out", merge=True)
    write_manifest(lora_sweep, base_folder, model_sha256={"model.safetensors": "0" * 64})
    refused("must be the base model of the sweep", lora_sweep, tmp_path / "out", merge=True)
    (lora_sweep / "manifest.json").unlink()
    refused(r"manifest\.json", lora_sweep, tmp_path / "out")


def test_a_model_from_the_hub_keeps_its_id_and_commit(lora_sweep, base_folder, tmp_path):
    cached = tmp_path / "models--org--tiny" / "snapshots" / "0123abc"
    shutil.copytree(base_folder, cached)
    write_manifest(lora_sweep, cached)
    text = (lora_sweep / "sweep.yaml").read_text()
    (lora_sweep / "sweep.yaml").write_text(text.replace("random:tiny-llama", "org/tiny"))
    export(lora_sweep, tmp_path / "out", verify=False)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/tiny", "0123abc")
    assert "base_model: org/tiny" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_tells_objective_settings_scores_and_how_to_load(lora_sweep, base_folder, tmp_path):
    write_manifest(lora_sweep, base_folder, data_sha256={"train": "12ab"})
    export(lora_sweep, tmp_path / "out", verify=False)
    card = (tmp_path / "out" / "README.md").read_text()
    rank = json.loads(subprocess.check_output([sys.executable, "-m", "analysis.rank", lora_sweep, "--json"], cwd=ROOT))
    area = rank["rows"][0]["areas"]["tables"]
    low, high = area["delta_interval"]
    for text in [
        "Answer questions on small tables.",
        "- `peak_lr`: 0.0003",
        f"| tables | 40 | {area['nll']:.3f} |",
        f"{area['delta']:.3f} [{low:.3f}, {high:.3f}]",
        "AutoPeftModelForCausalLM",
        "apply_chat_template",
        "step 10 of 10, lowest of 2 trials; whether another setting is as good was not measured",
        "optimistic",
        "SHA-256",
        "The base model's folder names none",
    ]:
        assert text in card


@pytest.mark.parametrize("kind", ["chat", "wrapped"])
def test_the_cards_python_runs(lora_sweep, tmp_path, kind, capsys):
    if kind == "wrapped":
        with (lora_sweep / "sweep.yaml").open("a") as file:
            file.write('data: {template: "<human>: {prompt}\\n<bot>: {response}"}\n')
    export(lora_sweep, tmp_path / "out", verify=False)
    card = (tmp_path / "out" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("THIS_FOLDER", str(tmp_path / "out"))
    assert ("<human>: {prompt}\\n<bot>:'" in code) is (kind == "wrapped")
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.endswith("\n")


def test_no_winner_is_exit_code_3_and_errors_are_one_line(write_sweep, tmp_path, capsys):
    folder = write_sweep([FakeTrial("t1", {9: 0.3}, state="failed")])
    with pytest.raises(NoWinnerError):
        export(folder, tmp_path / "out")
    assert main([str(folder), "--to", str(tmp_path / "out")]) == 3
    assert main([str(tmp_path / "none"), "--to", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"error: .+: .+, got .+; .+", line) for line in lines)


@pytest.mark.fresh_process
def test_the_command_says_what_it_wrote(lora_sweep, tmp_path, capsys):
    assert main([str(lora_sweep), "--to", str(tmp_path / "out"), "--merge"]) == 0
    out, err = capsys.readouterr()
    steps = ["copying adapter of t1, step 10", "loading the trained model", "computing", "merging", "loading what was"]
    assert [line.split(" ", 1)[1].startswith(step) for line, step in zip(err.splitlines(), steps, strict=True)] == [
        True
    ] * 5
    assert f"merged of t1 at step 10: {tmp_path / 'out'}" in out
    compared = (
        r"verified: reloaded with transformers, logits (identical|equal) \(max diff \S+, limit 0\.\d+, \d+ positions\)"
    )
    assert re.search(compared, out)
    assert main([str(lora_sweep), "--to", str(tmp_path / "plain"), "--no-verify"]) == 0
    assert "not verified, as asked" in capsys.readouterr().out
    assert "was not loaded and compared" in (tmp_path / "plain" / "README.md").read_text()
    assert main([str(lora_sweep), "--to", str(tmp_path / "both"), "--unverified", "--merge"]) == 2


def test_an_export_ends_answers_as_the_labels_did_and_has_the_sweeps_template(lora_sweep, base_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<stop>"]})
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    tokenizer.save_pretrained(base)
    (lora_sweep / "cache").mkdir()
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<stop>{% endfor %}"
    (lora_sweep / "cache" / "chat_template.jinja").write_text(template)
    tokenizer.chat_template = template
    turns = [{"role": "user", "content": "Sum?"}, {"role": "assistant", "content": "12"}]
    tokenize([Sample("a", turns, {}, 1)], tokenizer, None, 256, lora_sweep / "cache" / "train.arrow")
    stop = tokenizer.convert_tokens_to_ids("<stop>")
    manifest = json.loads((lora_sweep / "manifest.json").read_text())
    (lora_sweep / "manifest.json").write_text(json.dumps({**manifest, "model_path": str(base)}))
    note = {"rule": "end_token_added", "severity": "warning", "message": "the template ends nothing; data.train"}
    (lora_sweep / "plan.json").write_text(json.dumps({"findings": [note]}))
    out = export(lora_sweep, tmp_path / "out", merge=True).folder  # the merge writes settings of its own
    settings = json.loads((out / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [0, stop]
    assert settings["max_new_tokens"] == 17
    assert AutoTokenizer.from_pretrained(out).chat_template == template
    card = (out / "README.md").read_text()
    assert f"do_sample=False, eos_token_id=[0, {stop}])" in card
    assert "- In the sweep, the template ends nothing." in card
