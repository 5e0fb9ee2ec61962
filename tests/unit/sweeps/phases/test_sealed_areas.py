"""Sealed areas are opened once; an opening that was cut short, whose scores nobody saw, is done again."""

import json
from types import SimpleNamespace

import pytest

from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.ledger import Ledger
from sweeps.phases import sealed_areas
from trainables.storage.working_copy import WorkingCopy

AREAS = ["sealed-one", "sealed-two"]


class Supervisor:
    """Scores every job, unless the sweep is cut short, and remembers what was said."""

    def __init__(self, cut_short=False):
        self.cut_short, self.jobs, self.works, self.said = cut_short, [], [], []

    def run_jobs(self, jobs):
        self.jobs.append(sorted(jobs))
        self.works.append(jobs)
        scored = {name: {"lines": line(work["area"]), "summary": {}} for name, work in jobs.items()}
        return None if self.cut_short else scored

    def say(self, text):
        self.said.append(text)


def line(area):
    return json.dumps({"area": area, "id": "x"}) + "\n"


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path, epoch=1)
    for trial in ("t0001", "t0002"):
        record = {
            "trial_id": trial,
            "kind": "search",
            "state": "complete",
            "params": {},
            "checkpoints": [{"step": 8, "path": f"{trial}/step-8"}],
        }
        ledger.append("trial_ended", trial=record)
    for name in ("baseline", "t0001", "t0002"):
        (tmp_path / "trials" / name).mkdir(parents=True)
        (tmp_path / "trials" / name / "heldout.jsonl").write_text(line("home"))
    best = {"winner": {"trial_id": "t0001", "step": 8}}
    monkeypatch.setattr(sealed_areas, "leaderboard", lambda _: best)
    config = SimpleNamespace(folder=tmp_path, heldout=SimpleNamespace(sealed=AREAS))
    return SimpleNamespace(config=config, ledger=ledger, best=best, store=SweepStore(WorkingCopy(tmp_path)))


def opened(sweep):
    return [(e["event"], e["winner"]["trial_id"]) for e in sweep.ledger.read()[0] if e["event"].startswith("sealed")]


def areas_of(sweep, trial):
    text = (sweep.config.folder / "trials" / trial / "heldout.jsonl").read_text()
    return [json.loads(raw)["area"] for raw in text.splitlines()]


def test_they_are_scored_once_for_the_winner_and_the_base_model(sweep):
    supervisor = Supervisor()
    for _ in range(2):
        sealed_areas.open_sealed(sweep, supervisor)
    assert len(supervisor.jobs) == 1
    assert opened(sweep) == [("sealed_opened", "t0001"), ("sealed_scored", "t0001")]
    assert areas_of(sweep, "t0001") == areas_of(sweep, "baseline") == ["home", *AREAS]
    assert areas_of(sweep, "t0002") == ["home"]


def test_a_retrained_winner_is_scored_beside_it_at_the_same_fraction_of_the_epoch(sweep):
    name = "t0001-retrained"
    points = [{"step": 10, "path": "at-the-fraction"}, {"step": 20, "path": "at-the-end"}]
    record = {"trial_id": name, "kind": "retrain", "state": "complete", "params": {}, "checkpoints": points}
    sweep.ledger.append("trial_ended", trial=record)
    (sweep.config.folder / "trials" / name).mkdir()
    supervisor = Supervisor()
    sealed_areas.open_sealed(sweep, supervisor)
    (works,) = supervisor.works
    assert works[f"sealed:{name}:{AREAS[0]}"]["trial"] == {"params": {}, "step": 10, "path": "at-the-fraction"}
    assert areas_of(sweep, name) == AREAS
    assert [event[1] for event in opened(sweep)] == ["t0001", "t0001"]


def test_an_opening_that_was_cut_short_is_finished_and_no_second_one(sweep):
    sealed_areas.open_sealed(sweep, Supervisor(cut_short=True))
    base = sweep.config.folder / "trials" / "baseline" / "heldout.jsonl"
    base.write_text(base.read_text() + line(AREAS[0]))  # killed after it had written these
    sealed_areas.open_sealed(sweep, Supervisor())
    assert opened(sweep) == [("sealed_opened", "t0001"), ("sealed_scored", "t0001")]
    assert areas_of(sweep, "baseline") == ["home", *AREAS]


def test_another_winner_needs_force_also_after_an_opening_that_was_cut_short(sweep):
    sealed_areas.open_sealed(sweep, Supervisor(cut_short=True))
    sweep.best["winner"] = {"trial_id": "t0002", "step": 8}
    supervisor = Supervisor()
    sealed_areas.open_sealed(sweep, supervisor)
    assert supervisor.jobs == []
    assert "--open-sealed-again" in supervisor.said[0]
    sealed_areas.open_sealed(sweep, supervisor, again=True)
    assert opened(sweep)[1:] == [("sealed_opened", "t0002"), ("sealed_scored", "t0002")]
