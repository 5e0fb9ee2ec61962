"""A warm lane on a tiny model, and a dispatcher that is a list."""

import json
from pathlib import Path

import torch

from tests.unit.trainables.training.helpers import lane, tokenized, trial
from trainables.config.sections import ModelConfig
from trainables.lane.store_sync import LaneStore
from trainables.lane.trial_states import TrialStates
from trainables.lane.warm_state import LaneState
from trainables.models.base_model import load_base, load_tokenizer
from trainables.optim.workers import SOLO
from trainables.storage.working_copy import WorkingCopy


def base(tiny, method="lora"):
    return load_base(tiny, ModelConfig(name="random:tiny-llama", method=method), "fp32", torch.device("cpu"))


def lane_state_in(folder, tiny, data, items=8, remote=None, **training):
    folder.mkdir(exist_ok=True)
    area, settings = tokenized(folder, load_tokenizer(tiny), items, seed=1), lane(**training)
    heldout = settings.heldout.model_copy(update={"answers_at": []})
    places = {
        "output_dir": str(folder / "out"),
        "model_path": str(tiny),
        "tokenized": data.paths[0],
        "heldout": heldout,
    }
    store = LaneStore(WorkingCopy(folder / "out", remote), epoch=1)
    settings = settings.model_copy(update=places)
    return LaneState(settings, SOLO, base(tiny), data, {"sums": area}, {"sums": {}}, store)


def curve(lane_state, name):
    path = Path(lane_state.settings.output_dir) / "trials" / name / "curve.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def states_in(folder):
    """A trial's states in a folder, as a lane of one worker keeps them."""
    return TrialStates(folder, LaneStore(WorkingCopy(folder)), SOLO, sharded=False)


class Lease:
    """A job that remembers what was reported; `stop_at` reports of progress make it want to stop."""

    is_trial = True

    def __init__(self, name, slots=1, stop_at=None, **params):
        spec = trial(**params).model_dump() | {"trial_id": name}
        self.job_id, self.work = name, {"do": "trial", "spec": spec, "baseline": {}, "slots": slots}
        self.reports, self.ended, self.error, self.shared, self.stop_at = [], None, None, None, stop_at

    def wants_stop(self):
        return self.stop_at is not None and len(self.reports) >= self.stop_at

    def is_interrupted(self):
        return False

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
