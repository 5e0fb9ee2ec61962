"""Each benchmark in its smallest form: it ends, and prints its figures in the form that its readers expect."""

import importlib
import json
from pathlib import Path

import pytest
import torch

PROJECT = Path(__file__).resolve().parents[3]
TRAIN = "conf/data/demo/train.jsonl"
TABLES = "conf/data/demo/heldout/tables.jsonl"


@pytest.fixture
def run(monkeypatch, capsys):
    """Calls a benchmark's `main` with flags; returns what it printed on stdout."""
    monkeypatch.chdir(PROJECT)
    threads = torch.get_num_threads()

    def call(module, flags):
        monkeypatch.setattr("sys.argv", [module, *flags.split()])
        importlib.import_module(f"benchmarks.{module}").main()
        return capsys.readouterr().out

    yield call
    torch.set_num_threads(threads)  # benchmarks set it for the whole process


def test_audit(run):
    result = json.loads(run("audit.__main__", "--lines 150 300"))
    assert [size["lines"] for size in result["sizes"]] == [150, 300]
    assert all(size["peak_bytes"] > 0 and size["lines_per_cpu_second"] for size in result["sizes"])
    assert {"seconds_times_the_last", "cpu_seconds_times_the_last"} <= result["sizes"][1].keys()


@pytest.mark.slow
def test_confirm(run):
    result = json.loads(run("confirm.__main__", "--replays 2 --seeds 1 --search random"))
    for name in ("seed_sd_unknown", "seed_sd_stated"):
        assert result[name]["null"]["false_separation"]["of"] == 2
        assert result[name]["surfaces"]["all"].keys() >= {"error", "error_difference", "ties", "coverage"}
    assert result["targets"].keys() == {"false_separation", "ties_at_a_gap_of_4_sds", "error_difference", "coverage"}


@pytest.mark.slow
def test_the_default_path(run):
    result = json.loads(run("confirm.default_path", "--sweeps 1"))
    for name in ("curves_tiny", "seeds_135m"):
        assert {cell["of"] for part in ("null", "beside_confirmed") for cell in result[name][part].values()} == {1}
        assert result[name]["power"]["4 sd"].keys() == {"told_apart", "by_the_oracle", "over_the_oracle"}
        assert result[name]["met"].keys() == {"null", "beside_confirmed", "power", "planted", "combination"}


@pytest.mark.slow
def test_selection(run):
    result = json.loads(
        run("selection.__main__", "--seeds 1 --longest 8 --surfaces 1 --methods ours ours_lowest random")
    )
    found = result["grid_tiny"]
    assert {method: len(means["8"]) for method, means in found["mean_regret_milli_nats"].items()} == {
        "ours": 6,
        "ours_lowest": 6,
        "random": 6,
    }
    assert found["ours_over"]["random"]["4"]["all"].keys() == {"ratio", "lower", "upper"}


def test_scale(run):
    flags = "--lanes 2 --trials-per-lane 1 --steps 20 --step-seconds 0.01 --trials-done 3 --recovered 3"
    result = json.loads(run("scale.__main__", flags))
    assert result["sweeps"][0]["trials"] == 2
    assert result["cpu_ms_to_propose"].keys() == {"gp", "tpe", "random"}
    assert result["cpu_seconds_to_recover"].keys() == {"3"}


@pytest.mark.slow
def test_recording_and_the_benchmarks_that_replay_it(run, tmp_path):
    prepared, curves = tmp_path / "prepared", tmp_path / "curves.npz"
    sizes = "--limit 24 --heldout-limit 4 --plantings 1"
    run(
        "recording.__main__",
        f"prepare --model random:tiny-llama --train {TRAIN} --heldout {TABLES} {sizes} --to {prepared}",
    )
    studies = "--studies middle seeds planted --trials 4 --seeds 2 --seeded-peaks 1e-3 --points 0.5 1.0"
    record = f"record --data {prepared} --to {curves} --method full --batch-size 2 {studies}"
    assert "9 trials" in run("recording.__main__", record)
    assert "9 trials recorded, 0 to go" in run("recording.__main__", record)

    result = json.loads(run("diagnostics.__main__", f"--curves 1 --resamples 2 --recordings {curves}"))
    assert result["synthetic"].keys() == {"with base losses", "without", "held out"}
    assert result["recorded"]["curves"]["trials"] == 6
    assert "variance by quarter" in result["planted"]["curves"]

    found = json.loads(run("pruning.__main__", f"--orders 1 --alone --recordings {curves}"))["curves"]
    assert found["middle (0)"]["trials"] == 4
    assert found["all of a regime"]["4 lanes"]["ours"].keys() >= {"executed", "executed_of_stable", "worse_choices"}


def test_packing_parity(run):
    flags = "--config conf/smoke.yaml --precisions fp32 --samples 8 --items 2 --seeds 2 --threads 1"
    result = json.loads(run("packing.parity", flags))
    assert (result["fp32"]["trials"], result["fp32"]["steps"], result["met"]) == (2, 2, True)


def test_throughput(run):
    flags = "--model random:tiny-llama --methods lora --samples 8 --items 2 --rounds 1 --warm-up-steps 1"
    result = json.loads(run("throughput.__main__", f"{flags} --batch-size 2 --threads 1"))["lora"]
    assert result["timed_steps_a_side"] == 3
    assert result["tokens_a_second"].keys() == {"loop", "trainer"}
    assert len(result["heldout_nll"]["differences"]) == 1


def test_resume_stalls(run):
    flags = "--resumes 0 --methods lora --rounds 1 --steps 2 --checkpoints 1 --model-config conf/smoke.yaml --threads 1"
    result = json.loads(run("resume", flags))
    assert result["lora"].keys() == {"step_seconds", "steps_a_checkpoint", "async", "between", "none"}


@pytest.mark.slow
def test_packing(run):
    (case,) = json.loads(run("packing.__main__", "--tokens 16 --steps 2 --rounds 1 --threads 1"))["cases"]
    assert case["seconds"].keys() >= {"packed", "one_after_another", "trainer"}
    assert str(case["slots_of_auto"]) in case["seconds_a_step_by_slots"]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # two Rays and a killed driver
def test_resuming_a_killed_sweep(run):
    result = json.loads(run("resume", "--resumes 1 --methods --threads 1"))["resume"]
    assert result["new_steps"] > 0
    assert result.keys() >= {"seconds", "until_started", "until_proposed", "until_steps"}


@pytest.mark.slow
@pytest.mark.timeout(1200)  # four starts of Ray
def test_overhead(run):
    result = json.loads(run("overhead.__main__", "--rounds 1 --trials 1 --stock-trials 1 --samples 4"))
    assert (result["lanes"]["trials"], result["stock"]["trials"]) == (1, 1)
    assert result["targets"].keys() == {"lanes_at_most_seconds", "ratio_at_least", "met"}
