"""What fails on one of two workers ends the trial on both, with one line, and both are ready for the next trial."""

import errno
import time
from pathlib import Path

import pytest
import torch

from tests.integration.cluster.gloo_workers import on_two_workers, tiny_model_and_sets
from tests.unit.trainables.lane.helpers import JobSource, Lease, curve
from tests.unit.trainables.training.helpers import lane
from trainables.checkpoints import checkpoint, training_state
from trainables.checkpoints.host_snapshots import Snapshots
from trainables.data.dataset import TokenizedSet
from trainables.errors import DISK_FULL, os_error
from trainables.evaluation import heldout
from trainables.lane.jobs import run_job
from trainables.lane.store_sync import LaneStore
from trainables.lane.trial_files import TrialFiles
from trainables.lane.warm_state import LaneState
from trainables.lane.worker import SideBySide
from trainables.models.base_model import load_base
from trainables.optim import optimizer
from trainables.packing import model as packed_model
from trainables.storage.working_copy import WorkingCopy
from trainables.training import rehearsal
from trainables.training.trial_run import TrialRun

pytestmark = pytest.mark.slow

SECONDS = 120
METHODS = ("full", "lora")  # sharded; each worker with the whole base
FULL = OSError(errno.ENOSPC, "planted: no room", "state")
# What fails, on which worker, and after how many calls that succeed.
CASES = {
    "a file of the sweep": (LaneStore, "fetch_missing", 1, 0),
    "the last state": (training_state, "whole_states", 1, 0),
    "a step's samples": (TrialRun, "next_step", 1, 2),
    "the curve": (TrialFiles, "add_steps", 0, 1),
    "the losses": (heldout, "item_losses", 1, 1),
    "the items": (TrialFiles, "add_items", 0, 0),
    "room for a checkpoint": (Snapshots, "reserve", 0, 0),
    "room for a state": (Snapshots, "reserve", 0, 1),
    "a checkpoint's write": (checkpoint, "save_weights", 0, 0),
    "the last checkpoint's write": (checkpoint, "save_weights", 0, 2),
    "the report of scores": (Lease, "report_of_areas", 0, 0),
    "a state's write": (training_state, "write", 0, 0),
    "the second worker's part of a state": (training_state, "write", 1, 0),
    "the second worker's part of a later state": (training_state, "write", 1, 1),
    "a pass": (None, "token_losses", 1, 2),
}
# The second worker writes no state of adapters; a failed pass of shared weights ends its process (below).
PARTS = ("the second worker's part of a state", "the second worker's part of a later state")
NOT = {*(("lora", case) for case in PARTS), ("full", "a pass")}
RUNS = [(method, case) for method in METHODS for case in CASES if (method, case) not in NOT]
# A trial that is tried again, and which of its checkpoints is the last with a state that both workers have.
AGAIN = {"full": (PARTS[1], 0), "lora": ("the last checkpoint's write", 1)}


class TellingLease(Lease):
    """A lease of which the report of scores can be replaced."""

    def report(self, message):
        if message["kind"] == "areas":
            Lease.report_of_areas(self)
        super().report(message)


Lease.report_of_areas = lambda self: None


def lane_state_of(world, folder, path, method):
    settings = lane(method, batch_size=2, checkpoints_at=[0.3, 0.6, 1.0])
    heldout_section = settings.heldout.model_copy(update={"answers_at": [], "batch_tokens": 128})
    data = TokenizedSet(folder / "sums-43-0.arrow")
    places = {
        "output_dir": str(folder / method),
        "model_path": str(path),
        "tokenized": data.paths[0],
        "heldout": heldout_section,
    }
    settings = settings.model_copy(update=places)
    Path(settings.output_dir).mkdir(exist_ok=True)
    base = load_base(path, settings.model, "fp32", "cpu", sharded=method == "full")
    areas = {"sums": TokenizedSet(folder / "sums-9-1.arrow")}
    store = LaneStore(WorkingCopy(Path(settings.output_dir)), epoch=1)
    return LaneState(settings, world, base, data, areas, {"sums": {}}, store)


def fail_after(patched, world, owners, name, rank, calls):
    """Lets a function fail on one worker, from a call on."""
    for owner in owners:
        own, seen = getattr(owner, name), []

        def failing(*args, own=own, seen=seen, **more):
            seen.append(1)
            if len(seen) > calls:
                raise FULL
            return own(*args, **more)

        if world.rank == rank:
            patched.setattr(owner, name, failing)


def run(lane_state, name):
    """A trial on the lane; its line if it failed, whether the disk was full, its end, and the seconds that it took."""
    lease, began = TellingLease(name, peak_lr=2e-3, decay_floor=4e-4), time.monotonic()
    try:
        SideBySide(lane_state, JobSource()).run(lease)
    except (OSError, RuntimeError) as error:
        lane_state.recover()
        full = os_error(error, DISK_FULL) is not None
        told = f"{type(lease.error).__name__}: {lease.error}"
        return {"line": told, "full": full, "seconds": time.monotonic() - began}
    steps = [point["step"] for point in lease.ended["checkpoints"]]
    return {"state": lease.ended["state"], "went_on_from_step": lease.ended["went_on_from_step"], "steps": steps}


def name_of(case):
    return f"t{list(CASES).index(case)}"


def rehearse(lane_state, error):
    def failing(*_):
        raise error

    work = {"do": "rehearsal", "params": {}, "slots": 1}
    with pytest.MonkeyPatch.context() as patched:
        if lane_state.world.rank == 1:
            patched.setattr(rehearsal, "item_losses", failing)
        try:
            return run_job(lane_state, work)["refusal"]
        except (OSError, RuntimeError) as raised:
            lane_state.recover()
            return f"{type(raised).__name__}: {raised}"


def all_cases(world, folder, path):
    found = {}
    for method in METHODS:
        lane_state = lane_state_of(world, folder, path, method)
        found[method, "before"] = run(lane_state, "before")
        for case in CASES:
            if (method, case) in NOT:
                continue
            owner, name, rank, calls = CASES[case]
            owners = [owner] if owner else [optimizer, packed_model]
            with pytest.MonkeyPatch.context() as patched:
                fail_after(patched, world, owners, name, rank, calls)
                found[method, case] = run(lane_state, name_of(case))
            world.gather(None)
        found[method, "rehearsal"] = rehearse(lane_state, FULL)
        found[method, "rehearsal, memory"] = rehearse(lane_state, torch.OutOfMemoryError("planted"))
        found[method, "after"] = run(lane_state, "after")
        found[method, "again"] = run(lane_state, name_of(AGAIN[method][0]))
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failures")
    path = tiny_model_and_sets(folder)
    workers, _ = on_two_workers(folder, all_cases, folder, path)
    return folder, workers


@pytest.mark.parametrize(("method", "case"), RUNS)
def test_a_failure_on_one_worker_ends_the_trial_on_both_with_its_line(results, method, case):
    _, workers = results
    failed = CASES[case][2]
    for rank, found in enumerate(worker[method, case] for worker in workers):
        assert "planted: no room" in found["line"], found
        assert rank == failed or f"worker {failed}: OSError" in found["line"]
        assert found["full"], "the dispatcher keeps the trial for a resumed sweep"
        assert found["seconds"] < SECONDS


@pytest.mark.parametrize("method", METHODS)
def test_a_rehearsal_fails_on_both_and_memory_is_a_refusal_on_both(results, method):
    for worker in results[1]:
        assert "planted: no room" in worker[method, "rehearsal"]
        assert worker[method, "rehearsal, memory"] == "memory ran out on a worker of this trial"


@pytest.mark.parametrize("method", METHODS)
def test_the_workers_train_on_as_before(results, method):
    folder, workers = results
    # The last step of which both have a state, not a later one of which one worker has its part.
    went_on_from = workers[0][method, "before"]["steps"][AGAIN[method][1]]  # rank 0 alone lists checkpoints
    for worker in workers:
        for name in ("before", "after", "again"):
            assert worker[method, name]["state"] == "complete"
            assert worker[method, name]["went_on_from_step"] == (went_on_from if name == "again" else None)
    lane_state = type("Settings", (), {"settings": type("Folder", (), {"output_dir": folder / method})})
    before = curve(lane_state, "before")
    assert len(before) == 11
    assert curve(lane_state, "after") == before
    assert curve(lane_state, name_of(AGAIN[method][0])) == before
