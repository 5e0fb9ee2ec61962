"""Memory before the baseline: what the user is told, and what is refused."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from sweeps.ledger.history import Past
from sweeps.phases import rehearsal
from sweeps.phases.rehearsal import hold_against_cluster, rehearse, words
from sweeps.plan.memory import GIB, Fit
from trainables.errors import UserError, UserErrors


def found(**more):
    sizes = {"device": "NVIDIA L4", "memory_bytes": 22 * GIB, "peak_bytes": 11 * GIB, "longest_tokens": 512}
    return {**sizes, "samples": 8, "slots": 1, "micro_batch_tokens": None, "refusal": None, **more}


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (
            found(),
            "the longest batch, 8 samples of 512 tokens, fits: 11.0 of 22.0 GiB of NVIDIA L4",
        ),
        (
            found(slots=4, micro_batch_tokens=2048),
            "the longest batch, 8 samples of 512 tokens of each of 4 trials, fits in parts of at most 2048 tokens: "
            "11.0 of 22.0 GiB of NVIDIA L4",
        ),
    ],
)
def test_one_line_says_what_the_longest_batch_took(end, line):
    assert words(end) == line


class Supervisor:
    """Answers the one job that it expects."""

    def __init__(self, end, use_gpu=True):
        self.lanes = SimpleNamespace(plan=SimpleNamespace(use_gpu=use_gpu))
        self.end, self.jobs, self.said = end, [], []
        self.say = self.said.append

    def run_jobs(self, jobs, **_):
        self.jobs.append(jobs)
        return {"rehearsal": self.end}


@pytest.fixture
def sweep(load):
    events, before = [], []
    ledger = SimpleNamespace(append=lambda kind, **fields: events.append((kind, fields)), read=lambda: (before, 0))
    config = load("space.batch_size={low: 4, high: 16}", "resources.trials_per_lane=auto")
    return SimpleNamespace(config=config, plan=None, ledger=ledger, events=events, before=before, past=Past())


def test_a_lane_with_a_gpu_tries_the_largest_trial(sweep):
    supervisor = Supervisor(found())
    rehearse(sweep, supervisor)
    assert supervisor.jobs == [{"rehearsal": {"do": "rehearsal", "params": {"batch_size": 16}, "slots": 1}}]
    assert supervisor.said == [words(found())]
    ((kind, fields),) = sweep.events
    assert (kind, fields["peak_bytes"], fields["refusal"]) == ("rehearsed", 11 * GIB, None)


def test_a_resumed_sweep_tries_the_slots_that_its_start_has_found_and_names_no_key_that_must_stay(sweep):
    sweep.before.append({"event": "slots", "asked": "auto", "slots": 4})
    sweep.past = Past(ended=[{"trial_id": "t0001"}])
    supervisor = Supervisor(found(refusal="out of memory: x"))
    with pytest.raises(UserError, match=r"got out of memory; resume the sweep on a card with more memory$"):
        rehearse(sweep, supervisor)
    assert supervisor.jobs[0]["rehearsal"]["slots"] == 4


def test_cpus_are_not_asked(sweep):
    supervisor = Supervisor(found(), use_gpu=False)
    rehearse(sweep, supervisor)
    assert (supervisor.jobs, sweep.events) == ([], [])


def test_a_sample_that_does_not_fit_is_refused_with_a_remedy_that_does(sweep, monkeypatch):
    asked = []
    monkeypatch.setattr(rehearsal, "make_request", lambda *_: "request")
    monkeypatch.setattr(rehearsal, "remedy", lambda *args: asked.append(args) or "set x=1 (9.0 GiB)")
    refused = found(refusal="a sample of 512 tokens alone does not fit into the device's memory: set y")
    line = (
        r"^training: a sample of 512 tokens must fit into the memory of NVIDIA L4, got a sample of 512 tokens alone "
        r"does not fit into the device's memory; set x=1 \(9.0 GiB\), and give the sweep another name"
    )
    with pytest.raises(UserError, match=line):
        rehearse(sweep, Supervisor(refused))
    assert asked == [("request", int(20.5 * GIB))]
    monkeypatch.setattr(rehearsal, "make_request", lambda *_: (_ for _ in ()).throw(UserError("a", "b", "c", "d")))
    with pytest.raises(UserError, match="gradient_checkpointing=true"):
        rehearse(sweep, Supervisor(refused))


@pytest.mark.parametrize(
    ("accelerators", "outcome"),
    [
        ([], ""),
        (["V100"], ""),  # no bf16, and no card of the table
        (["H100", "L4"], "the smallest card here, l4: fits, 5.0 GiB needed"),
        (["A100", "A100-40G"], "the smallest card here, a100-40gb: fits"),
        (["A100"], "the smallest card here, a100-80gb: fits"),
        (["A10G"], "no forecast for this cluster's a10g, because code of its own: the longest batch is tried first"),
    ],
)
def test_the_plan_is_held_against_the_clusters_smallest_card(monkeypatch, accelerators, outcome):
    def hold(_, plan, device, where, *, margin):
        assert (where, margin) == ("resources", False)
        if device == "a10g":
            raise UserError("--device", "must run", "code of its own", "try it")
        plan.fit = Fit(device, 20 * GIB, 5 * GIB, 8, 8)

    monkeypatch.setattr(rehearsal, "hold_against", hold)
    shown = io.StringIO()
    hold_against_cluster(None, SimpleNamespace(failures=[], fit=None), accelerators, Console(file=shown, width=200))
    assert shown.getvalue().startswith(outcome)
    assert bool(shown.getvalue()) is bool(outcome)


def test_a_plan_that_does_not_fit_the_cluster_ends_the_start(monkeypatch):
    plan = SimpleNamespace(failures=[], fit=None)
    error = UserError("resources", "a sample must fit", "50 GiB needed", "set x")
    monkeypatch.setattr(rehearsal, "hold_against", lambda *_, **__: plan.failures.append(error))
    with pytest.raises(UserErrors, match="resources: a sample must fit"):
        hold_against_cluster(None, plan, ["L4"], Console(file=io.StringIO()))
