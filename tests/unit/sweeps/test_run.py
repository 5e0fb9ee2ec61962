"""Bad input: one clear line on stderr, exit code 2, nothing left behind; all before Ray is started."""

import json
import sys

import pytest
import yaml

from sweeps.plan import plan
from sweeps.plan.plan import Plan
from sweeps.run import main, parse
from tests.unit.sweeps.helpers import SMALL


def sample(number, words=3):
    return {"id": f"s{number}", "prompt": f"What is number {number}?", "response": " ".join(["it"] * words)}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a small sweep in it, and the current folder."""
    monkeypatch.chdir(tmp_path)
    own = {"model": {"name": "random:tiny-llama"}, "storage_path": "outputs"}
    data = {"train": "train.jsonl", "max_tokens": 256}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**SMALL, **own, "data": data}))
    write(tmp_path / "train.jsonl", [sample(number) for number in range(8)])
    write(tmp_path / "home.jsonl", [sample(number) for number in range(100, 104)])
    return tmp_path


def write(path, samples):
    path.write_text("".join(json.dumps(s) + "\n" for s in samples))


def run(capsys, *arguments):
    before = "ray" in sys.modules
    code = main(["sweep.yaml", *arguments])
    assert before or "ray" not in sys.modules
    return code, capsys.readouterr()


def test_a_plan_counts_and_leaves_only_itself(place, capsys):
    code, shown = run(capsys, "--plan", "training.batch_size=4")
    assert code == 0
    assert "one epoch: 2 steps of 4 samples" in shown.out
    plan = json.loads((place / "outputs/small/plan.json").read_text())
    assert (plan["steps"], plan["train"]["samples"]) == (2, 8)
    assert [path.name for path in (place / "outputs").iterdir()] == ["small"]
    assert [path.name for path in (place / "outputs/small").iterdir()] == ["plan.json"]
    assert run(capsys, "--plan")[0] == 0, "a folder with a plan alone is free"


def test_a_plan_as_json_is_printed_and_leaves_no_folder(place, capsys):
    code, shown = run(capsys, "--plan", "--json", "training.batch_size=4")
    assert (code, shown.err) == (0, "")
    assert not (place / "outputs").exists()
    printed = json.loads(shown.out)
    assert run(capsys, "--plan", "training.batch_size=4")[0] == 0
    written = json.loads((place / "outputs/small/plan.json").read_text())
    assert [one["steps"] for one in (printed, written)] == [2, 2]
    assert printed.keys() == written.keys()


def test_a_plan_as_json_names_failures_there_and_on_stderr(place, capsys):
    write(place / "train.jsonl", [*(sample(number) for number in range(8)), sample(100)])
    code, shown = run(capsys, "--plan", "--json")
    assert code == 2
    assert "data.on_defect.leakage=drop" in shown.err
    assert not (place / "outputs").exists()
    assert json.loads(shown.out)["failures"] == [line.removeprefix("error: ") for line in shown.err.splitlines()]


def test_json_without_a_plan_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["sweep.yaml", "--json"])
    assert "error: arguments: --json prints a plan, and needs --plan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "steps", "samples", "words", "warned"),
    [
        (["space.batch_size={low: 1, high: 4}"], [2, 8], [1, 4], "2 to 8 steps of 1 to 4 samples", "short_warmup"),
        (["space.batch_size={low: 2, high: 32}"], [1, 4], [2, 32], "1 to 4 steps of 2 to 32 samples", "one_step"),
        (["space.batch_size=2"], [4, 4], [2, 2], "4 steps of 2 samples", "short_warmup"),
        (
            ["training.batch_size=2", "space.gradient_accumulation={low: 1, high: 2}"],
            [2, 4],
            [2, 4],
            "2 to 4 steps of 2 to 4 samples",
            "short_warmup",
        ),
    ],
)
def test_a_plan_counts_the_steps_at_both_ends_of_a_searched_batch(
    place, capsys, overrides, steps, samples, words, warned
):
    code, shown = run(capsys, "--plan", "space.beyond_recommended=a test", *overrides)
    assert code == 0
    assert f"one epoch: {words}" in shown.out
    plan = json.loads((place / "outputs/small/plan.json").read_text())
    assert (plan["steps_ends"], plan["samples_per_step_ends"]) == (steps, samples)
    assert warned in [finding["rule"] for finding in plan["findings"]]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data.train=none.jsonl"], "error: none.jsonl: data file must exist and be readable, got No such file"),
        (["heldout.areas.home=none.jsonl"], "error: none.jsonl: "),
        (["model.name=./nowhere"], "error: model.name: must be a model that exists"),
        (["data.max_tokens=20"], "error: train.jsonl line 1: must be at most data.max_tokens tokens long, got "),
        (["heldout.areas.home.scorers=[exact_mach]"], "error: heldout.areas.home.scorers"),
        (
            ["search.trials=100000", "model.lora.r=4096", "resources.keep_checkpoints=all"],
            "error: storage_path: must have room",
        ),
        (
            [
                "training.schedule={shape: wsd, decay_fraction: 0.5}",
                "space.warmup_fraction=0.9",
                "training.batch_size=1",
            ],
            "error: ",
        ),
        (["storage_path=train.jsonl/below"], "error: storage_path: must be a writable folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(place, capsys, arguments, line):
    before = sorted(path.name for path in place.iterdir())
    code, shown = run(capsys, *arguments)
    assert code == 2
    assert shown.err.startswith(line), shown.err
    assert "Traceback" not in shown.err
    assert not list((place / "outputs").glob("*")) if (place / "outputs").exists() else True
    assert sorted(path.name for path in place.iterdir() if path.name not in ("outputs", ".cache")) == before


def test_all_mistakes_of_a_config_or_of_the_data_are_reported_together(place, capsys):
    code, shown = run(capsys, "serch=1", "model.lora.r=0", "name=''")
    assert (code, [line[:7] for line in shown.err.splitlines()]) == (2, ["error: "] * 3)
    (place / "home.jsonl").write_text("")
    (place / "train.jsonl").write_text(
        '{"id": "a", "prompt": "p", "response": "r"}\nnot json\n{"id": "b", "prompt": 3}\n'
    )
    code, shown = run(capsys)
    assert code == 2
    for where in ("train.jsonl line 2", "train.jsonl line 3", "home.jsonl"):
        assert f"error: {where}: " in shown.err


def test_texts_and_paths_of_users_are_shown_as_they_are(place, capsys):
    text = "Answer [/b] :smile: [red]well[/red], please."
    folder = place / "a [v2]  [" / "x]"
    folder.mkdir(parents=True)
    write(folder / "train.jsonl", [sample(number) for number in range(8)])
    train = f"data.train={folder}/train.jsonl"
    code, shown = run(capsys, "--plan", f"objective={text}", train, f"storage_path={folder}")
    assert code == 0
    assert f"small: {text}\n" in shown.out
    assert f"{folder}/train.jsonl\n" in shown.out
    assert (folder / "small/plan.json").is_file()


def test_a_config_may_have_an_equals_sign_in_its_name_and_a_sweeps_folder_is_to_be_resumed(place, capsys):
    (place / "lr=1.yaml").write_text((place / "sweep.yaml").read_text())
    assert main(["lr=1.yaml", "--plan"]) == 0
    assert parse(["--resume", "outputs/small", "lr=1.yaml"]).overrides == []
    assert parse(["--resume", "outputs/small", "search.trials=3"]).config is None
    (place / "outputs/small/sweep.yaml").write_text("")
    assert main(["--resume", "outputs/small/sweep.yaml"]) == 2
    assert "outputs/small/sweep.yaml, a file; give its folder: --resume outputs/small" in capsys.readouterr().err
    assert main(["outputs/small"]) == 2
    assert "must be a file, got a folder; did you mean --resume outputs/small?" in capsys.readouterr().err


def test_models_need_a_current_folder_that_can_be_written(place, capsys, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", ".cache/models")

    monkeypatch.setattr(plan, "resolve_model", refused)
    code, shown = run(capsys, "--plan")
    assert code == 2
    assert f"{place}/.cache/models: must be writable: base models that are made or converted" in shown.err


@pytest.mark.usefixtures("place")
def test_a_ctrl_c_is_one_line_and_130(capsys, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "resolve_model", pressed)
    code, shown = run(capsys, "--plan")
    assert (code, shown.err) == (130, "interrupted\n")


def test_too_long_samples_stop_the_sweep_unless_they_are_dropped(place, capsys):
    write(place / "train.jsonl", [sample(0), sample(1, words=200), sample(2)])
    code, shown = run(capsys, "--plan")
    assert code == 2
    assert "data.max_tokens" in shown.err
    code, shown = run(capsys, "--plan", "data.on_defect.too_long=drop")
    assert code == 0
    plan = json.loads((place / "outputs/small/plan.json").read_text())
    assert plan["train"]["samples"] == 2
    assert plan["train"]["dropped"] == {"too_long": 1}
    assert plan["audit"]["train"]["rules"]["too_long"]["lines"] == [2]
    assert "too_long (drop): 1 line: 2" in shown.out


@pytest.mark.parametrize(
    ("device", "peak", "code", "said"),
    [
        ("l4", 10 << 30, 0, "device    l4: fits, 10.0 GiB needed"),
        ("l4", 30 << 30, 2, "device    l4: does not fit, 30.0 GiB needed"),
        ("l5", 0, 2, ""),
    ],
)
def test_a_plan_is_held_against_a_card(place, capsys, monkeypatch, device, peak, code, said):
    monkeypatch.setattr("sweeps.plan.memory.needed_bytes", lambda request: peak)
    found, shown = run(capsys, "--plan", "--device", device)
    assert found == code
    assert said in shown.out
    errors = [line for line in shown.err.splitlines() if line.startswith("error: --device: ")]
    assert len(errors) == (code == 2)
    if said:
        plan = Plan.read(place / "outputs/small")
        assert (plan.fit.device, plan.fit.needed_bytes, plan.forecast.memory_bytes) == (device, peak, peak)


def test_help_has_an_example_and_neither_config_nor_resume_is_an_argument_error(capsys):
    for arguments, code, shown in ((["--help"], 0, "example: python -m sweeps.run"), ([], 2, "")):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == code
        assert shown in capsys.readouterr().out
