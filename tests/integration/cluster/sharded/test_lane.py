"""A lane of two workers that share the weights out: scores, checkpoints, states and jobs are those of one worker."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.integration.cluster.gloo_workers import on_two_workers, tiny_model_and_sets
from tests.train_trial import attempt
from tests.unit.trainables.training.helpers import lane, trial
from trainables.checkpoints.checkpoint import verify
from trainables.data.dataset import TokenizedSet
from trainables.evaluation import scoring_workers
from trainables.lane.jobs import run_job
from trainables.lane.warm_state import LaneState
from trainables.models.base_model import load_base
from trainables.optim import optimizer
from trainables.optim.step import PassRanOutError
from trainables.optim.workers import World
from trainables.packing import model as packed_model
from trainables.training import found_limit

pytestmark = pytest.mark.slow

PARAMS = {"peak_lr": 2e-3, "decay_floor": 4e-4}


def lane_state_of(world, folder, path, batch_size, precision="fp32", method="full"):
    settings = lane(method, batch_size=batch_size, checkpoints_at=[0.3, 0.6, 1.0], precision=precision)
    heldout = settings.heldout.model_copy(update={"answers_at": ["base", "last"], "batch_tokens": 128})
    data = TokenizedSet(folder / "sums-43-0.arrow")
    places = {
        "output_dir": str(folder / f"{precision if method == 'full' else method}-of-{world.size}"),
        "model_path": str(path),
        "tokenized": data.paths[0],
        "heldout": heldout,
    }
    settings = settings.model_copy(update=places)
    Path(settings.output_dir).mkdir(exist_ok=True)
    base = load_base(path, settings.model, precision, "cpu", sharded=world.size > 1)
    return LaneState(settings, world, base, data, {"sums": TokenizedSet(folder / "sums-9-1.arrow")}, {"sums": {}})


def train(lane_state, name, killed_after=None):
    spec = trial(**PARAMS).model_dump() | {"trial_id": name}
    end = attempt(lane_state, {"do": "trial", "spec": spec, "baseline": {}}, killed_after=killed_after)
    return end and {key: end[key] for key in ("state", "steps", "went_on_from_step", "checkpoints")}


def work(world, folder, path, batch_size):
    """What a lane does; its files lie in the folder."""
    lane_state, found = lane_state_of(world, folder, path, batch_size), {}
    found["baseline"] = run_job(lane_state, {"do": "baseline", "area": "sums"})
    found["base_losses"] = run_job(lane_state, {"do": "base_losses"})
    world.gather(None)  # the first worker has written them
    found["whole"] = train(lane_state, "whole")
    last = found["whole"]["checkpoints"] or [None]
    point = world.gather(last[-1])[0]
    sealed = {"do": "sealed", "area": "sums", "trial": {"params": PARAMS, "step": 11, "path": point["path"]}}
    found["sealed"] = run_job(lane_state, sealed)["lines"]
    if world.size > 1:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(scoring_workers, "_free_bytes", lambda device: 0)
            found["sealed in lockstep"] = run_job(lane_state, sealed)["lines"]
        train(lane_state, "killed", killed_after=8)
        found["killed"] = train(lane_state, "killed")
    adapted = lane_state_of(world, folder, path, batch_size, method="lora")
    found["adapted"] = train(adapted, "whole")
    world.gather(None)
    found["adapted, sealed"] = run_job(adapted, sealed)["lines"]
    train(adapted, "killed", killed_after=8)
    found["adapted, killed"] = train(adapted, "killed")
    rough = lane_state_of(world, folder, path, batch_size, "bf16")
    found["bf16"] = train(rough, "rough")
    if world.size > 1:
        found["halved"] = halved(lane_state)
        found["out of memory"] = [out_of_memory(lane_state), out_of_memory(adapted)]
    return found


def halved(lane_state):
    """A trial that runs out of memory once, behind its first state: its line and half, and the lane's next start."""
    own, calls = optimizer.token_losses, []

    def limited(model, batch):
        calls.append(1)
        if len(calls) == 9:
            raise torch.OutOfMemoryError("planted")
        return own(model, batch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(optimizer, "token_losses", limited)
        with pytest.raises(PassRanOutError) as caught:
            train(lane_state, "halved")
        lane_state.learn_from(caught.value)
        lane_state.recover()
        lane_state.world.gather(None)
        settings = found_limit.with_found(lane_state.settings, lane_state.world)
        again = LaneState(
            settings, lane_state.world, lane_state.base, lane_state.data, lane_state.areas, lane_state.scorers
        )
        tokens = settings.training.micro_batch_tokens
        return str(caught.value), caught.value.half, tokens, train(again, "halved")


def out_of_memory(lane_state):
    def planted(*_):
        raise torch.OutOfMemoryError("planted")

    with pytest.MonkeyPatch.context() as patched:
        for module in (optimizer, packed_model):
            patched.setattr(module, "token_losses", planted)
        try:
            train(lane_state, "large")
        except RuntimeError as error:
            return str(error)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded-lane")
    path = tiny_model_and_sets(folder)
    workers, alone = on_two_workers(folder, work, folder, path, 2, meanwhile=lambda: work(World(), folder, path, 4))
    return folder, alone, workers


def lines(folder, name, precision="fp32", workers=2):
    path = folder / f"{precision}-of-{workers}" / "trials" / name
    return [json.loads(line) for line in path.read_text().splitlines()]


def same_scores(mine, theirs):
    assert [line.keys() for line in mine] == [line.keys() for line in theirs]
    for ours, others in zip(mine, theirs, strict=True):
        assert ours.pop("nll") == pytest.approx(others.pop("nll"), abs=1e-5)
        assert ours == others


@pytest.mark.parametrize("name", ["baseline/sums.jsonl", "whole/heldout.jsonl"])
def test_shared_scores_and_answers_are_those_of_one_worker(results, name):
    folder, _, _ = results
    same_scores(lines(folder, name), lines(folder, name, workers=1))


def test_so_are_the_base_losses_and_the_curve(results):
    folder, alone, workers = results
    for ours, others in zip(
        lines(folder, "whole/curve.jsonl"), lines(folder, "whole/curve.jsonl", workers=1), strict=True
    ):
        assert ours["ids"] == others["ids"]
        for name in ("loss", "base_loss"):
            assert ours[name] == pytest.approx(others[name], abs=1e-5)
        for name in ("item_nll", "item_base_nll"):
            assert ours[name] == pytest.approx(others[name], abs=1e-5)
    assert workers[0]["base_losses"] == workers[1]["base_losses"] == alone["base_losses"]


def test_a_checkpoint_has_the_format_and_the_weights_of_one_worker(results):
    folder, alone, workers = results
    ours, theirs = (folder / f"fp32-of-{size}/trials/whole/checkpoints/step-11" for size in (2, 1))
    assert verify(ours).keys() == verify(theirs).keys()
    assert (ours / "config.json").read_text() == (theirs / "config.json").read_text()
    for name in ("step", "path", "areas"):
        mine, other = ([point[name] for point in found["whole"]["checkpoints"]] for found in (workers[0], alone))
        assert len(mine) == len(other) == 3
    models = [AutoModelForCausalLM.from_pretrained(place) for place in (ours, theirs)]
    for mine, other in zip(*(model.parameters() for model in models), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, other, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["sealed", "sealed in lockstep"])
def test_a_checkpoint_is_loaded_and_scored_as_it_was_at_its_step(results, name):
    folder, _, workers = results
    last = [line for line in lines(folder, "whole/heldout.jsonl") if line["step"] == 11]
    for found in workers:
        same_scores([json.loads(line) for line in found[name].splitlines()], [dict(line) for line in last])


def test_a_killed_trial_goes_on_to_the_bit_from_each_workers_own_state(results):
    folder, _, workers = results
    assert workers[0]["killed"]["went_on_from_step"] == 7
    for name in ("curve.jsonl", "heldout.jsonl"):
        assert lines(folder, f"killed/{name}") == lines(folder, f"whole/{name}")
    states = folder / "fp32-of-2/trials/killed/state"
    assert {path.relative_to(states).as_posix() for path in states.glob("*/*")} == {
        f"rank-{rank}-of-2/step-7" for rank in (0, 1)
    }


def test_adapters_on_a_shared_base_are_scored_saved_and_resumed_as_on_one_worker(results):
    folder, alone, workers = results
    same_scores(lines(folder, "whole/heldout.jsonl", "lora"), lines(folder, "whole/heldout.jsonl", "lora", workers=1))
    ours, theirs = (folder / f"lora-of-{size}/trials/whole/checkpoints/step-11" for size in (2, 1))
    assert verify(ours).keys() == verify(theirs).keys() >= {"adapter_model.safetensors", "adapter_config.json"}
    mine, others = (load_file(place / "adapter_model.safetensors") for place in (ours, theirs))
    assert mine.keys() == others.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, others[name], atol=2e-5, rtol=0)
    for name in ("curve.jsonl", "heldout.jsonl"):
        assert lines(folder, f"killed/{name}", "lora") == lines(folder, f"whole/{name}", "lora")
    for found in (*workers, alone):
        last = [line for line in lines(folder, "whole/heldout.jsonl", "lora") if line["step"] == 11]
        same_scores([json.loads(line) for line in found["adapted, sealed"].splitlines()], last)
        assert found["adapted, killed"]["went_on_from_step"] == 7


def test_in_bf16_the_curve_is_near_that_of_one_worker(results):
    folder, _, _ = results
    files = (lines(folder, "rough/curve.jsonl", "bf16", workers) for workers in (2, 1))
    for ours, others in zip(*files, strict=True):
        assert ours["loss"] == pytest.approx(others["loss"], rel=0.02)
    config = json.loads((folder / "bf16-of-2/trials/rough/checkpoints/step-11/config.json").read_text())
    assert config["dtype"] == "float32"


def test_where_memory_runs_out_the_next_start_goes_on_with_half_of_the_tokens(results):
    folder, _, workers = results
    lines_told, halves, tokens, ends = zip(*(found["halved"] for found in workers), strict=True)
    assert set(tokens) == {min(halves)}, "both take the lower"
    for line, half, end in zip(lines_told, halves, ends, strict=True):
        assert f"set training.micro_batch_tokens to {half}," in line
        assert (end["state"], end["went_on_from_step"]) == ("complete", 7)
    for ours, whole in zip(lines(folder, "halved/curve.jsonl"), lines(folder, "whole/curve.jsonl"), strict=True):
        assert ours["ids"] == whole["ids"]
        assert ours["loss"] == pytest.approx(whole["loss"], abs=1e-5)


def test_memory_that_runs_out_is_told_with_a_remedy(results):
    _, _, workers = results
    for found in workers:
        assert all("set training.micro_batch_tokens to" in line for line in found["out of memory"])
