"""Jobs that are no trials: their ends come from the recorder, and a failed one or a stop ends the waiting."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from sweeps.driver.budget import Budget
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor, supervised
from sweeps.folder.dropped_trials import ask_to_drop, asked_to_drop
from sweeps.folder.sweep_store import SweepStore
from sweeps.lanes.cluster import LanePlan
from sweeps.lanes.lanes import LanesFailedError
from sweeps.ledger.history import Past
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.trial_record import StoppedTrials

SILENT = SimpleNamespace(tell=lambda *_, **__: None, look=lambda *_: None)
JOBS = {"baseline:home": {"do": "baseline"}, "baseline:away": {"do": "baseline"}}


class Recorder:
    """Each wait brings the next end."""

    def __init__(self, *states):
        self.ends, self._states = {}, list(states)

    def wait_for(self, job_ids, _seconds):
        if self._states:
            self.ends[list(job_ids)[len(self.ends)]] = {"state": self._states.pop(0), "error": "E: a"}
        return self.ends.keys() >= set(job_ids)


def supervisor(*states, stop=False):
    calls = []
    lanes = SimpleNamespace(submit=lambda job_id, _work: calls.append(job_id), call=calls.append)
    flags = {"interrupt": SimpleNamespace(is_set=lambda: stop), "budget": SimpleNamespace(is_spent=lambda: False)}
    return Supervisor(SimpleNamespace(**flags), lanes, Recorder(*states), None, None, SILENT), calls


def test_all_ends_are_returned_and_counted_meanwhile_and_a_failed_job_is_an_error_at_once():
    watch, calls = supervisor("complete", "complete")
    counts = []
    assert watch.run_jobs(JOBS, on_wait=counts.append).keys() == JOBS.keys()
    assert (counts, calls) == ([1, 2], list(JOBS))
    with pytest.raises(LanesFailedError, match="baseline:home could not be done: E: a"):
        supervisor("failed")[0].run_jobs(JOBS)


def test_a_stop_cancels_the_jobs():
    watch, calls = supervisor(stop=True)
    assert watch.run_jobs(JOBS) is None
    assert watch.cut_short
    assert calls[-1] == "interrupt"


def test_a_dropped_trial_of_the_search_is_cancelled_once_with_a_finding(tmp_path):
    cancelled, events = [], []
    lanes = SimpleNamespace(cancel=lambda job, why: cancelled.append((job, why)))
    sweep = SimpleNamespace(
        store=SimpleNamespace(folder=tmp_path),
        stopped=StoppedTrials(),
        ledger=SimpleNamespace(append=lambda kind, **fields: events.append((kind, fields))),
        console=SimpleNamespace(print=lambda *_, **__: None),
    )
    specs = {name: SimpleNamespace(kind="replicate" if name == "b" else "search") for name in "abcd"}
    watch = Supervisor(sweep, lanes, Recorder(), SimpleNamespace(specs=specs), None, SILENT)
    jobs = {name: {"job_id": name, "state": "running", "step": 3, "points": [], "attempt": 1} for name in "abcd"}
    jobs["c"]["step"] = None  # it has not begun: it is dropped once it has
    for _ in range(2):
        watch._drop({"jobs": jobs})
    assert cancelled == []
    for name in "abc":
        ask_to_drop(tmp_path, name, "ada")
    for _ in range(2):
        watch._drop({"jobs": jobs})
    assert cancelled == [("a", "pruned")]
    assert events == [("trial_dropped", {"trial_id": "a", "user": "ada", "step": 3})]
    assert sweep.stopped.findings["a"]["advice"] == "none: ada has stopped it"
    jobs["c"] |= {"job_id": "c+rest", "step": 1}
    watch._drop({"jobs": {"c": jobs["c"]}})
    assert cancelled[1:] == [("c+rest", "pruned")]
    for text in ("", "[]", "{}"):  # damaged, yet a request
        (tmp_path / "dropped" / "d.json").write_text(text)
        assert asked_to_drop(tmp_path)["d"] == "unknown"


def test_waiting_for_a_lane_costs_nothing_and_is_said(tmp_path, monkeypatch):
    said, now = [], [0.0]
    monkeypatch.setattr("sweeps.driver.supervisor.time.monotonic", lambda: now[0])
    monkeypatch.setattr("sweeps.driver.supervisor.waiting_words", lambda plan: f"waiting for {plan.workers} CPUs")
    lanes = SimpleNamespace(up=0, plan=SimpleNamespace(workers=2), status=dict, check=lambda status: None)
    budget = Budget(0, 0.01, clock=lambda: now[0])
    store = SimpleNamespace(folder=tmp_path)
    console = SimpleNamespace(print=lambda text, **_: said.append(text))
    sweep = SimpleNamespace(budget=budget, store=store, console=console)
    quiet = SimpleNamespace(show=lambda status: None, check=lambda: None, records={})
    watch = Supervisor(sweep, lanes, quiet, quiet, None, SILENT)

    def look(seconds, up):
        now[0] += seconds
        lanes.up = up
        turns = iter([False, True])
        monkeypatch.setattr(watch._finishing, "wait", lambda _seconds: next(turns))
        watch.run()
        watch.check()

    for _ in range(5):
        look(30.0, up=0)
    assert said == ["waiting for 2 CPUs"] * 5
    assert budget.spent_hours() == 0.0
    look(1.0, up=1)
    look(36.0, up=1)
    assert budget.spent_hours() == pytest.approx(2 * 36 / 3600)
    assert budget.is_spent()
    assert len(said) == 5


def test_a_supervised_sweep_tells_that_it_has_started_and_that_its_budget_is_almost_spent(load, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("sweeps.notify.messages.send", lambda _config, news: told.append(news) or [])
    config = load(f"storage_path={tmp_path}", "notify.events=[started,budget]", "budget.device_hours=1")
    config.folder.mkdir(parents=True)
    answers = {"ended_since": {"born": 1, "ended": []}}
    lanes = SimpleNamespace(
        up=1,
        plan=LanePlan(lanes=1, workers=2, use_gpu=False, cpus=1),
        status=lambda: {"jobs": {}, "notices": []},
        check=lambda _status: None,
        call=lambda name, *_: answers.get(name),
        drain=lambda: None,
    )
    sweep = Sweep(
        config=config,
        plan=SimpleNamespace(train=SimpleNamespace(samples=8)),
        ledger=Ledger(config.folder),
        past=Past([]),
        budget=Budget(2, 1.0, before_hours=0.9),
        interrupt=SimpleNamespace(is_set=lambda: False),
        console=Console(file=io.StringIO()),
        store=SweepStore.of_driver(config.place),
    )
    with supervised(sweep, lanes):
        pass
    assert [news["event"] for news in told] == ["started", "budget"]
    assert told[0]["text"].startswith(f"{config.name}: running 1 trial at a time on 2 CPU cores")
    assert told[0]["resumed"] is False
