"""A lane's slots: filled from waiting trials, each reported and ended alone. The dispatcher is a list here."""

import errno
import json
import time
from pathlib import Path

import pytest

from tests.unit.trainables.training.helpers import lane, trial
from trainables.checkpoints import checkpoint
from trainables.lane.warm_state import LaneState
from trainables.lane.worker import SideBySide, serve
from trainables.optim.workers import SOLO
from trainables.packing.pack import Pack


@pytest.fixture
def lane_state(tiny, base, samples, tmp_path):
    data, area = samples(22), samples(8, 1)
    settings = lane(checkpoints_at=[1.0])
    heldout = settings.heldout.model_copy(update={"answers_at": []})
    places = {"output_dir": str(tmp_path / "out"), "model_path": str(tiny), "tokenized": data.path, "heldout": heldout}
    settings = settings.model_copy(update=places)
    return LaneState(settings=settings, world=SOLO, base=base, data=data, areas={"sums": area}, scorers={"sums": {}})


class Lease:
    """A job that remembers what was reported; `stop_at` reports of progress make it want to stop."""

    is_trial = True

    def __init__(self, name, slots=1, stop_at=None, **params):
        spec = trial(**params).model_dump() | {"trial_id": name}
        self.job_id, self.work = name, {"do": "trial", "spec": spec, "baseline": {}, "slots": slots}
        self.reports, self.ended, self.error, self.shared, self.stop_at = [], None, None, None, stop_at

    def wants_stop(self):
        return self.stop_at is not None and len(self.reports) >= self.stop_at

    def report(self, message):
        self.reports.append(message)

    def end(self, end):
        self.ended = end

    def fail(self, error, *, shared=False):
        self.error, self.shared = error, shared


class JobSource:
    """Trials that wait."""

    def __init__(self, *waiting):
        self.waiting = list(waiting)

    def trial(self):
        return self.waiting.pop(0) if self.waiting else None


def curve(lane_state, name):
    path = Path(lane_state.settings.output_dir) / "trials" / name / "curve.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_slot_that_gets_free_is_filled_at_once(lane_state, monkeypatch):
    widths, step = [], Pack.step
    monkeypatch.setattr(Pack, "step", lambda self, parts: (widths.append(len(parts)), step(self, parts))[1])
    # 22 samples, 4 a batch: 6 steps; the second is told to stop after 2.
    leases = [Lease("a", 2), Lease("b", 2, stop_at=2, seed=8), Lease("c", 2, seed=9), Lease("d", 2, seed=10)]
    serve(lane_state, JobSource(*leases[1:]), leases[0])
    assert [lease.ended["state"] for lease in leases] == ["complete", "stopped", "complete", "complete"]
    assert [lease.ended["steps"] for lease in leases] == [6, 2, 6, 6]
    assert widths[:8] == [2] * 8  # c took b's place without a step in between
    for lease in leases:
        assert [line["step"] for line in curve(lane_state, lease.job_id)] == list(range(1, lease.ended["steps"] + 1))
        assert lease.ended["cost"]["device_seconds"] <= lease.ended["cost"]["wall_seconds"]
    assert [len(lease.ended["checkpoints"]) for lease in leases] == [1, 0, 1, 1]


def test_a_trial_beside_others_writes_what_it_writes_alone(lane_state):
    alone, beside = Lease("alone"), Lease("beside", 3)
    serve(lane_state, JobSource(), alone)
    assert alone.ended["cost"]["padding_share"] == 0.0
    serve(lane_state, JobSource(Lease("x", 3, seed=8, batch_size=2.0), Lease("y", 3, seed=9)), beside)
    for ours, theirs in zip(curve(lane_state, "beside"), curve(lane_state, "alone"), strict=True):
        assert ours["ids"] == theirs["ids"]
        assert ours["item_nll"] == pytest.approx(theirs["item_nll"], abs=2e-5)
    assert 0.0 < beside.ended["cost"]["padding_share"] < 0.6
    ours, theirs = (lease.ended["checkpoints"][0]["objective"] for lease in (beside, alone))
    assert ours == pytest.approx(theirs, abs=2e-5)


def test_a_trial_that_cannot_begin_or_fails_leaves_the_others_alone(lane_state):
    folder = Path(lane_state.settings.output_dir) / "trials"
    folder.mkdir(parents=True)
    (folder / "in-the-way").write_text("")  # where this trial's folder would be
    first, wrong, blocked = Lease("first", 3), Lease("wrong", 3, lora_r=0.0), Lease("in-the-way", 3)
    late = Lease("late", 3, seed=4)
    serve(lane_state, JobSource(wrong, blocked, late), first)
    assert first.ended["state"] == late.ended["state"] == "complete"
    assert "r\n" in str(wrong.error)
    assert isinstance(blocked.error, FileExistsError)
    assert wrong.ended is blocked.ended is None


def test_an_error_of_the_step_itself_fails_all_and_the_lane_serves_on(lane_state, monkeypatch):
    step = Pack.step
    monkeypatch.setattr(Pack, "step", lambda self, parts: 1 / 0)
    leases = [Lease("a", 2), Lease("b", 2)]
    serve(lane_state, JobSource(leases[1]), leases[0])
    assert [type(lease.error) for lease in leases] == [ZeroDivisionError] * 2
    assert [lease.shared for lease in leases] == [True] * 2  # nobody is blamed
    alone = Lease("a", 2)
    serve(lane_state, JobSource(), alone)
    assert (type(alone.error), alone.shared) == (ZeroDivisionError, False)
    monkeypatch.setattr(Pack, "step", step)
    again = Lease("a", 2)
    SideBySide(lane_state, JobSource()).run(again)
    assert again.ended["state"] == "complete"


def test_an_end_is_told_when_all_is_written_and_an_error_of_the_writer_fails_its_trial_alone(lane_state, monkeypatch):
    save = checkpoint.save_weights

    def slowly(weights, tensors, folder, meta):
        if meta["trial_id"] == "b":
            raise OSError(errno.EIO, "the disk is broken")
        time.sleep(0.2)
        return save(weights, tensors, folder, meta)

    class Asking(Lease):
        def end(self, end):
            super().end(end)
            for point in end["checkpoints"]:
                checkpoint.verify(Path(lane_state.settings.output_dir) / point["path"])

    monkeypatch.setattr(checkpoint, "save_weights", slowly)
    leases = [Asking("a", 3), Asking("b", 3, seed=3), Asking("c", 3, seed=4)]
    serve(lane_state, JobSource(*leases[1:]), leases[0])
    assert [lease.ended and lease.ended["state"] for lease in leases] == ["complete", None, "complete"]
    assert "the disk is broken" in str(leases[1].error)
