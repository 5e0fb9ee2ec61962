"""How many trials each lane trains side by side: the config's number, or the fastest that a lane has measured."""

from __future__ import annotations

from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.ledger.history import last
from trainables.lane.messages import JobEnd


def choose_slots(sweep: Sweep, supervisor: Supervisor) -> None:
    """Sets `supervisor.slots`: a lane checks whether trials can be packed, and measures how many where asked for.

    A resumed sweep keeps what its first start has found: a search with other trials side by side is another one.

    Raises:
        LanesFailedError: It could not be measured.
    """
    asked = sweep.config.resources.trials_per_lane
    if asked == 1:
        return
    if known := known_slots(sweep):
        supervisor.slots = known
        supervisor.say(f"{_many(known)} on each worker, as at the sweep's start")
        return
    # A lane decides for a fixed number, too: whether a model can be packed shows only once it is loaded.
    ends = supervisor.run_jobs({"slots": {"do": "slots", "asked": asked}})
    if ends is None:
        return
    settled = ends["slots"]
    supervisor.slots = settled["slots"]
    sweep.ledger.append("slots", asked=asked, **{name: settled[name] for name in ("slots", "obstacle", "speed_up")})
    supervisor.say(words(asked, settled))


def known_slots(sweep: Sweep) -> int | None:
    """Trials side by side that an earlier start has found for the same request; None where there is none."""
    known = last(sweep.ledger.read()[0], "slots")
    return known["slots"] if known and known["asked"] == sweep.config.resources.trials_per_lane else None


def words(asked: int | str, settled: JobEnd) -> str:
    if settled["obstacle"]:
        return f"resources.trials_per_lane={asked}: one trial at a time on each worker, because {settled['obstacle']}"
    many = _many(settled["slots"])
    if asked != "auto":
        return f"{many} on each worker"
    if not settled["seconds_per_step"]:
        return f"{many} on each worker: nothing could be measured, memory is short"
    steps = ", ".join(f"{slots}: {seconds:.3g} s" for slots, seconds in settled["seconds_per_step"].items())
    return f"{many} on each worker: {settled['speed_up']:.2f} times the throughput of one (a step of {steps})"


def _many(slots: int) -> str:
    return f"{slots} trials side by side" if slots > 1 else "one trial at a time"
