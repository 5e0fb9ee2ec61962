"""A trial that was killed goes on from its last checkpoint, and what it leaves is what it would have left."""

import json
from pathlib import Path

import pytest
import torch

from tests.object_store_helpers import in_memory
from tests.train_trial import attempt as attempt_at_trial
from tests.train_trial import train_trial
from tests.unit.trainables.lane.helpers import base, lane_state_in, states_in
from tests.unit.trainables.training.helpers import Memory, lane, trial
from trainables.checkpoints import checkpoint, training_state
from trainables.checkpoints.training_state import TrainingState
from trainables.storage.json_numbers import json_line
from trainables.storage.sealed_folder import pull_sealed
from trainables.training.loop import Loop, TrialRun

CHECKPOINTS_AT = [0.3, 0.6, 1.0]


def as_lines(records):
    return [json.loads(json_line(vars(record))) for record in records]


@pytest.mark.parametrize(("method", "dropout"), [("lora", 0.0), ("lora", 0.3), ("full", 0.0)])
def test_the_rest_of_the_curve_is_the_same_to_the_bit(tiny, data, method, dropout, tmp_path):
    """Also after a way over the disk, in a fresh base, and with another trial served in between."""
    config = lane(method, lora={"r": 4, "alpha": 8.0, "dropout": dropout}, checkpoints_at=[0.3, 0.6, 1.0])
    whole, states = Memory(), states_in(tmp_path)

    def keep(step, learnt):
        states.save(TrainingState(step, learnt, {"spec": "this"}))

    uninterrupted = Loop(base(tiny, method)).train(TrialRun(data, trial(), config, whole.hooks(save_state=keep)))
    state = states.last({"spec": "this"})
    assert state.step == 7  # of 11; the one after step 3 went when this was whole, and none is kept at the end
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-7"]

    loop, rest = Loop(base(tiny, method)), Memory()
    loop.train(TrialRun(data, trial(seed=1), config, Memory().hooks()))
    trial_run = TrialRun(data, trial(), config, rest.hooks())
    trial_run.resume_from(state.step, state.tensors, as_lines(whole.records[:7]))
    outcome = loop.train(trial_run)
    assert rest.records == whole.records[7:]
    assert rest.checkpoints == [11]
    assert (outcome.state, outcome.steps, outcome.samples_seen) == ("complete", 11, 43)
    assert outcome.findings == uninterrupted.findings


def test_the_earlier_state_stays_until_it_is_dropped(tmp_path):
    """Other workers may not have their parts of the next one yet."""
    for step in (3, 7):
        place = training_state.write(tmp_path, TrainingState(step, {"weight.0": torch.full((2,), step)}, {}))
    found = training_state.whole_states(tmp_path, {})
    assert {step: training_state.load(path).tensors["weight.0"].tolist() for step, path in found.items()} == {
        3: [3, 3],
        7: [7, 7],
    }
    training_state.drop_earlier(place)
    assert list(training_state.whole_states(tmp_path, {})) == [7]


def test_it_goes_on_beside_others(tiny, data):
    config, kept, whole = lane(checkpoints_at=[0.5, 1.0]), {}, Memory()

    def keep(step, learnt):
        kept[step] = {name: tensor.clone() for name, tensor in learnt.items()}

    Loop(base(tiny)).train(TrialRun(data, trial(), config, whole.hooks(save_state=keep)))
    loop, rest = Loop(base(tiny)), Memory()
    loop.set_slots(2)
    loop.join(TrialRun(data, trial(seed=3, lora_r=7.0), config, Memory().hooks()))
    loop.step()
    trial_run = TrialRun(data, trial(), config, rest.hooks())
    trial_run.resume_from(6, kept[6], as_lines(whole.records[:6]))
    loop.join(trial_run)
    while not loop.is_empty:
        loop.step()
    for ours, theirs in zip(rest.records, whole.records[6:], strict=True):
        assert ours.ids == theirs.ids
        assert ours.item_nll == pytest.approx(theirs.item_nll, abs=2e-5)


def test_what_does_not_fit_is_refused(tiny, data):
    config = lane()
    trial_run = TrialRun(data, trial(), config, Memory().hooks())
    with pytest.raises(ValueError, match="a curve of 1 steps is not that of a trial after 2"):
        trial_run.resume_from(2, {}, [{}])
    trial_run.step, trial_run.resume_state = 2, {"rows": torch.zeros(3, 5)}
    with pytest.raises(ValueError, match=r"\(3, 5\) is not of this adapter"):
        Loop(base(tiny)).join(trial_run)


@pytest.fixture
def lane_state(tiny, data, tmp_path):
    return lane_state_in(tmp_path, tiny, data, checkpoints_at=CHECKPOINTS_AT)


def attempt(lane_state, name, killed_after=None, pause_at=None):
    """Trains a trial; `killed_after` so many steps the worker is gone, and a fresh one takes over the lane_state."""
    reports = []
    work = {"do": "trial", "spec": trial().model_dump() | {"trial_id": name}, "baseline": {}, "pause_at": pause_at}
    return attempt_at_trial(lane_state, work, reports.append, killed_after), reports


def test_an_interrupted_trial_keeps_its_present_step(lane_state):
    attempt(lane_state, "whole")
    steps = []

    def interrupted():
        steps.append(1)
        return len(steps) > 5

    work = {"do": "trial", "spec": trial().model_dump() | {"trial_id": "cut"}, "baseline": {}}
    end = train_trial(lane_state, work, interrupted=interrupted)
    assert (end["state"], end["steps"]) == ("preempted", 5)
    assert attempt(lane_state, "cut")[0]["went_on_from_step"] == 5
    assert contents(lane_state, "cut") == contents(lane_state, "whole")


def contents(lane_state, name):
    folder = Path(lane_state.settings.output_dir) / "trials" / name
    # Not how long the steps took, which is never the same.
    files = {path.name: path.read_text() for path in folder.glob("*.jsonl") if path.name != "speed.jsonl"}
    return files, {path.name for path in (folder / "checkpoints").iterdir()}


def folder_of(lane_state, name):
    return Path(lane_state.settings.output_dir) / "trials" / name / "state"


@pytest.mark.parametrize(("killed_after", "from_step"), [(2, None), (3, 3), (6, 3), (7, 7), (10, 7)])
def test_killed_anywhere_a_trial_loses_at_most_what_came_after_its_last_checkpoint(lane_state, killed_after, from_step):
    expected, _ = attempt(lane_state, "whole")
    assert attempt(lane_state, "killed", killed_after)[0] is None
    end, reports = attempt(lane_state, "killed")
    assert end["went_on_from_step"] == from_step
    assert end["state"] == "complete"
    for name in ("steps", "samples_seen", "findings"):
        assert end[name] == expected[name]
    for ours, theirs in zip(end["checkpoints"], expected["checkpoints"], strict=True):
        assert all(ours[name] == theirs[name] for name in ("step", "areas", "objective"))
    assert contents(lane_state, "killed") == contents(lane_state, "whole")
    assert [r["seq"] for r in reports if r["kind"] == "areas"] == {None: [1, 2, 3], 3: [2, 3], 7: [3]}[from_step]
    told = [r["text"] for r in reports if r["kind"] == "notice"]
    assert told == ([f"killed goes on from step {from_step} of 11"] if from_step else [])


@pytest.mark.parametrize(("killed_after", "from_step"), [(2, None), (8, 7)])
def test_on_another_node_it_goes_on_from_what_lies_in_a_store(tiny, data, tmp_path, killed_after, from_step):
    remote, nodes = in_memory(), []
    for name in ("here", "there"):
        nodes.append(lane_state_in(tmp_path / name, tiny, data, remote=remote, checkpoints_at=CHECKPOINTS_AT))
    expected, _ = attempt(nodes[0], "whole")
    assert attempt(nodes[0], "killed", killed_after)[0] is None
    end, _ = attempt(nodes[1], "killed")
    assert (end["went_on_from_step"], end["steps"]) == (from_step, expected["steps"])
    for name in ("curve.jsonl", "heldout.jsonl"):
        assert remote.get(f"trials/killed/{name}") == remote.get(f"trials/whole/{name}")
    steps = [{key.split("/")[3] for key in remote.listed(f"trials/{name}/checkpoints")} for name in ("whole", "killed")]
    assert steps[0] == steps[1]
    for step in steps[1]:
        assert pull_sealed(remote, f"trials/killed/checkpoints/{step}", tmp_path / step)
        checkpoint.verify(tmp_path / step)
    left = [path for lane_state in nodes for path in Path(lane_state.settings.output_dir).rglob("*.safetensors")]
    assert [path for path in left if "checkpoints" in path.parts] == [], "uploaded weights do not stay on a node"


@pytest.mark.parametrize("killed_after", [None, 2, 4])  # in the first part never, before a checkpoint, in the rest
def test_a_paused_trial_is_trained_on_as_if_it_had_not_paused(lane_state, killed_after):
    expected, _ = attempt(lane_state, "whole")
    if killed_after == 2:
        attempt(lane_state, "paused", killed_after, pause_at=CHECKPOINTS_AT[0])
    first, reports = attempt(lane_state, "paused", pause_at=CHECKPOINTS_AT[0])
    assert (first["state"], first["steps"], len(first["checkpoints"])) == ("paused", 3, 1)
    assert [r["step"] for r in reports if r["kind"] == "areas"] == [3]
    again, reports = attempt(lane_state, "paused", pause_at=CHECKPOINTS_AT[0])  # its end was not heard
    assert (again["state"], again["steps"]) == ("paused", 3)
    assert [r for r in reports if r["kind"] == "areas"] == []
    if killed_after == 4:
        attempt(lane_state, "paused", killed_after)
    end, _ = attempt(lane_state, "paused")
    assert (end["state"], end["steps"], end["findings"]) == ("complete", 11, expected["findings"])
    assert contents(lane_state, "paused") == contents(lane_state, "whole")


@pytest.mark.parametrize(("warmup", "state"), [(0.2, "paused"), (0.3, "complete"), (0.6, "complete")])
def test_a_trial_whose_warm_up_is_not_over_does_not_pause(lane_state, warmup, state):
    spec = trial(warmup_fraction=warmup).model_dump() | {"trial_id": "warm"}
    work = {"do": "trial", "spec": spec, "baseline": {}, "pause_at": CHECKPOINTS_AT[0]}
    assert train_trial(lane_state, work, lambda report: None, lambda: False)["state"] == state


def test_a_torn_line_and_an_attempt_that_is_killed_again_do_no_harm(lane_state):
    attempt(lane_state, "whole")
    attempt(lane_state, "killed", killed_after=8)
    curve = folder_of(lane_state, "killed").parent / "curve.jsonl"
    curve.write_text(curve.read_text()[:-20])
    attempt(lane_state, "killed", killed_after=1)
    end, _ = attempt(lane_state, "killed")
    assert end["went_on_from_step"] == 7
    assert contents(lane_state, "killed") == contents(lane_state, "whole")


def test_a_state_that_is_damaged_or_of_another_trial_is_not_used(lane_state, caplog):
    attempt(lane_state, "whole")
    attempt(lane_state, "killed", killed_after=4)
    (state,) = folder_of(lane_state, "killed").iterdir()
    tensors = state / training_state.TENSORS
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    end, _ = attempt(lane_state, "killed")
    assert end["went_on_from_step"] is None
    assert "sha256 differs" in caplog.text
    assert contents(lane_state, "killed") == contents(lane_state, "whole")

    attempt(lane_state, "other", killed_after=4)
    assert not training_state.whole_states(folder_of(lane_state, "other"), {"spec": trial().model_dump()})
    assert "was written by another trial" in caplog.text
