"""Which checkpoints stay: cases, what must never go, and that the disk and the ledger agree."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.driver.checkpoint_cleanup import CheckpointCleaner
from sweeps.driver.checkpoint_retention import Ended, kept
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.history import ended_trials
from sweeps.ledger.ledger import Ledger
from trainables.checkpoints.retention import best_and_last
from trainables.storage.working_copy import WorkingCopy

NAN = math.nan


def ended(name, setting=None, competes=True, **objectives):
    return Ended(name, setting or name, competes, {int(step[1:]): value for step, value in objectives.items()})


A, B, C = (ended("a", s1=1.3, s2=1.1), ended("b", s1=1.2, s2=1.25), ended("c", s1=1.4, s2=1.5))


@pytest.mark.parametrize(
    ("trials", "most", "contenders", "expected"),
    [
        ([], 1, (), []),
        ([A, B, C], 1, (), ["a2"]),
        ([A, B, C], 2, (), ["a2", "b1"]),
        ([A, B, C], 5, (), ["a2", "b1", "c1"]),
        ([A, B, C], 1, ("c",), ["a2", "c1"]),  # what is being confirmed stays, whatever else is better
        ([A, B, C], 1, ("x",), ["a2"]),
        ([A, ended("p", competes=False, s1=0.5)], 5, (), ["a2"]),  # pruned, diverged, failed: it can't win
        ([A, ended("n", s1=NAN)], 5, (), ["a2"]),
        ([A, ended("n", s1=NAN, s2=1.2)], 5, (), ["a2", "n2"]),
        ([A, B, ended("a-s1", "a", s1=1.05, s2=1.2)], 1, (), ["a-s11"]),  # a setting's best is that of all its trials
        ([A, B, ended("a-s1", "a", s1=1.15)], 2, (), ["a2", "b1"]),
        ([ended("a-s1", "a", s1=1.15), B], 1, (), ["a-s11"]),
        ([ended("a", s1=1.1, s2=1.1), B], 1, (), ["a1", "a2"]),  # equals stay: the leaderboard rounds otherwise
        ([A, ended("d", s9=1.1), B], 1, (), ["a2", "d9"]),
    ],
)
def test_the_best_of_the_best_settings_stays(trials, most, contenders, expected):
    assert sorted(f"{name}{step}" for name, step in kept(trials, most, contenders)) == expected


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ({10: 1.0}, {10}),
        ({10: 1.0, 20: 0.9, 30: 0.8}, {30}),
        ({10: 0.7, 20: 0.9, 30: 0.8}, {10, 30}),
        ({10: 0.7, 20: 0.7, 30: 0.8}, {10, 20, 30}),
        ({10: NAN, 20: 0.7, 30: NAN}, {20, 30}),
        ({10: NAN, 20: NAN}, {20}),
    ],
)
def test_of_a_running_trial_the_best_and_the_last_stay(objectives, expected):
    assert best_and_last(objectives) == expected


objectives = st.dictionaries(st.integers(1, 4), st.sampled_from([0.9, 1.0, 1.1, 1.2, NAN]), max_size=4)
trials = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), objectives), max_size=12).map(
    lambda found: [Ended(f"t{k}", *one) for k, one in enumerate(found)]
)


@given(trials=trials, most=st.integers(1, 5), contenders=st.sets(st.sampled_from("abcdefgh"), max_size=4))
def test_the_winner_and_the_contenders_stay_and_nothing_dropped_is_wanted_again(trials, most, contenders):
    stay = kept(trials, most, contenders)
    able = {
        (t.trial_id, step): (value, t.setting)
        for t in trials
        if t.competes
        for step, value in t.objectives.items()
        if math.isfinite(value)
    }
    assert stay <= able.keys()
    lowest = {setting: min(v for v, s in able.values() if s == setting) for _, setting in able.values()}
    if lowest:
        winner = min(lowest, key=lambda setting: (lowest[setting], setting))
        for setting in {winner, *(contenders & lowest.keys())}:
            best = [key for key, found in able.items() if found == (lowest[setting], setting)]
            assert set(best) <= stay
    assert len({able[key][0] for key in stay}) <= most + len(contenders)
    earlier = kept(trials[:-1], most, contenders)
    assert {key for key in stay if key[0] != (trials[-1].trial_id if trials else None)} <= earlier


def record(name, state="complete", replicate_of=None, **objectives):
    points = [
        {"step": int(step[1:]), "path": f"trials/{name}/checkpoints/step-{step[1:]}", "areas": {"x": {"nll": value}}}
        for step, value in objectives.items()
    ]
    kind = "replicate" if replicate_of else "search"
    return {"trial_id": name, "state": state, "kind": kind, "replicate_of": replicate_of, "checkpoints": points}


class Folder:
    """A sweep's folder, of which trials end one after another."""

    def __init__(self, path):
        self.path, self.ledger, self.store = path, Ledger(path), SweepStore(WorkingCopy(path))
        self.start()

    def start(self, most=2, contenders=()):
        ended = ended_trials(self.ledger.read()[0])
        self.cleaner = CheckpointCleaner(self.store, self.ledger, most, {"x": 1.0}, ended, contenders)

    def end(self, record):
        for point in record["checkpoints"]:
            (self.path / point["path"]).mkdir(parents=True)
        record = self.cleaner.judge(record)
        self.ledger.append("trial_ended", trial=record)
        self.cleaner.ended(record)

    def on_disk(self):
        return sorted(f"{place.parts[-3]}{place.name[5:]}" for place in self.path.glob("trials/*/checkpoints/*"))

    def by_ledger(self):
        records = ended_trials(self.ledger.read()[0])
        return sorted(f"{r['trial_id']}{c['step']}" for r in records for c in r["checkpoints"] if c["kept"])


def test_the_disk_holds_what_the_ledger_says(tmp_path):
    folder = Folder(tmp_path)
    seen = []
    for one in (
        record("a", s1=1.3, s2=1.1),
        record("p", "pruned", s1=0.5),
        record("b", s1=1.2, s2=1.25),
        record("c", s1=1.15, s2=1.5),
        record("a-s1", replicate_of="a", s1=1.0, s2=1.05),
    ):
        folder.end(one)
        assert folder.on_disk() == folder.by_ledger()
        seen.append(" ".join(folder.on_disk()))
    assert seen == ["a2", "a2", "a2 b1", "a2 c1", "a-s11 c1"]
    (first, *_) = ended_trials(folder.ledger.read()[0])
    assert [point["areas"]["x"]["nll"] for point in first["checkpoints"]] == [1.3, 1.1]  # scores stay
    folder.start("all")
    folder.end(record("d", s1=1.3, s2=1.1))
    folder.end(record("q", "pruned", s1=0.5))
    assert folder.on_disk() == folder.by_ledger() == ["a-s11", "c1", "d1", "d2", "q1"]


def test_a_start_removes_what_a_killed_driver_had_given_up_and_goes_on(tmp_path):
    folder = Folder(tmp_path)
    folder.end(record("a", s1=1.3, s2=1.1))
    for place in ("trials/a/checkpoints/step-1", "trials/a/checkpoints/step-9.partial"):
        (tmp_path / place).mkdir()
    folder.start(contenders=["a"])
    assert folder.on_disk() == ["a2"]
    for name, value in (("b", 1.0), ("c", 0.9), ("d", 0.8)):
        folder.end(record(name, s1=value))
    assert folder.on_disk() == folder.by_ledger() == ["a2", "c1", "d1"]
