"""A lane's slots: filled from waiting trials, each reported and ended alone. The dispatcher is a list here."""

import errno
import time
from pathlib import Path

import pytest

from tests.unit.trainables.lane.helpers import JobSource, Lease, curve, lane_state_in
from trainables.checkpoints import checkpoint
from trainables.lane.worker import SideBySide, serve
from trainables.optim.step import PassRanOutError
from trainables.packing.pack import Pack
from trainables.storage.object_store import StoreError
from trainables.training import found_limit


@pytest.fixture
def lane_state(tiny, samples, tmp_path):
    return lane_state_in(tmp_path, tiny, samples(22), checkpoints_at=[1.0])


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


def test_a_paused_trial_frees_its_slot_and_goes_on_in_another_pack(lane_state):
    lane_state.settings = lane_state.settings.model_copy(
        update={"training": lane_state.settings.training.model_copy(update={"checkpoints_at": [0.5, 1.0]})}
    )
    alone, paused, other, late = Lease("alone"), Lease("paused", 2), Lease("other", 2, seed=8), Lease("late", 2, seed=9)
    serve(lane_state, JobSource(), alone)
    paused.work["pause_at"] = 0.5
    serve(lane_state, JobSource(other, late), paused)
    assert (paused.ended["state"], other.ended["state"], late.ended["state"]) == ("paused", "complete", "complete")
    rest = Lease("paused", 2)
    serve(lane_state, JobSource(Lease("more", 2, seed=10)), rest)
    assert rest.ended["went_on_from_step"] == paused.ended["steps"] < rest.ended["steps"]
    for ours, theirs in zip(curve(lane_state, "paused"), curve(lane_state, "alone"), strict=True):
        assert ours["ids"] == theirs["ids"]
        assert ours["item_nll"] == pytest.approx(theirs["item_nll"], abs=2e-5)


def test_a_retrained_winner_learns_the_held_out_items_too_and_is_not_scored_on_them(tiny, samples, tmp_path):
    lane_state = lane_state_in(tmp_path, tiny, samples(22), checkpoints_at=[0.25, 1.0])
    area = lane_state.areas["sums"]
    places = {"tokenized_areas": {"sums": area.paths[0]}}
    lane_state.settings = lane_state.settings.model_copy(update=places)
    again = Lease("again")
    again.work["spec"] |= {"kind": "retrain", "replicate_of": "t1"}
    again.work["keep_at"] = 0.5
    serve(lane_state, JobSource(), again)
    lines = curve(lane_state, "again")
    assert sorted(name for line in lines for name in line["ids"]) == sorted([*lane_state.data.ids, *area.ids])
    assert all(line["base_loss"] is None for line in lines)
    assert (again.ended["state"], again.ended["samples_seen"]) == ("complete", 22 + len(area))
    assert [(point["step"], point["areas"]) for point in again.ended["checkpoints"]] == [(4, {}), (8, {})]
    assert {report["kind"] for report in again.reports} == {"progress"}
    folder = Path(lane_state.settings.output_dir) / "trials" / "again"
    assert not (folder / "heldout.jsonl").exists() or not (folder / "heldout.jsonl").read_text()
    assert all((folder / "checkpoints" / f"step-{step}" / "COMPLETE").exists() for step in (4, 8))


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


@pytest.mark.parametrize("full", [OSError(errno.ENOSPC, "no room"), StoreError("s3://b", "must answer", "503", "wait")])
def test_a_limit_that_cannot_be_kept_replaces_no_error(lane_state, monkeypatch, caplog, full):
    def failing(*_):
        raise full

    def out_of_memory(*_):
        raise PassRanOutError("memory ran out", 64)

    monkeypatch.setattr(found_limit, "keep", failing)
    monkeypatch.setattr(Pack, "step", out_of_memory)
    leases = [Lease("a", 2), Lease("b", 2)]
    serve(lane_state, JobSource(leases[1]), leases[0])
    assert [str(lease.error) for lease in leases] == ["memory ran out"] * 2
    assert f"could not be kept: {full}" in caplog.text


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
