"""How a start of a sweep begins: its files are made to agree with its ledger, which then says what is left to do."""

from __future__ import annotations

from rich.console import Console

from sweeps.config.sweep_config import SweepConfig
from sweeps.driver.budget import Budget
from sweeps.driver.context import Sweep
from sweeps.driver.interrupt import Interrupt
from sweeps.folder.cleanup import remove_leftovers
from sweeps.lanes.cluster import LanePlan
from sweeps.ledger.history import Past, last, past_of, write_trials
from sweeps.ledger.ledger import Ledger
from sweeps.plan.plan import Plan
from sweeps.search.study import rebuild_study
from trainables.errors import UserError
from trainables.storage.working_copy import WorkingCopy


def open_sweep(
    config: SweepConfig,
    plan: Plan,
    copy: WorkingCopy,
    lane_plan: LanePlan,
    interrupt: Interrupt,
    console: Console,
    open_sealed_again: bool,
) -> Sweep:
    """This start of the sweep: its number in the ledger, what earlier starts have done, and what may still be spent.

    Args:
        config: The sweep.
        plan: Its pre-flight.
        copy: The driver's copy of its folder.
        lane_plan: Whose devices are paid for.
        interrupt: Set by Ctrl-C.
        console: Where to print.
        open_sealed_again: Sealed areas may be opened a second time.

    Raises:
        UserError: Nothing may.
    """
    ledger = Ledger.of_new_driver(config.folder, copy.remote)
    past = recover(config, copy, ledger, console)
    _refuse_spent_budget(config, past.device_hours)
    budget = Budget(lane_plan.devices, config.budget.device_hours, past.device_hours)
    return Sweep(config, plan, ledger, past, budget, interrupt, console, copy, open_sealed_again)


def recover(config: SweepConfig, copy: WorkingCopy, ledger: Ledger, console: Console) -> Past:
    """What earlier starts have done, by the ledger; `trials.jsonl` and the study are made to agree with it.

    A driver that is killed while a trial's end is written leaves a trial that only the ledger knows.

    Args:
        config: The sweep.
        copy: The driver's copy of its folder.
        ledger: Its ledger.
        console: Where warnings are printed.
    """
    for fault in ledger.faults():
        console.print(f"[yellow]warning[/]: {fault}: it does not count", soft_wrap=True, highlight=False)
    events, _ = ledger.read()
    past = past_of(events)
    remove_leftovers(copy, [record["trial_id"] for record in past.ended])
    write_trials(config.folder, past.ended)
    if last(events, "baseline"):
        rebuild_study(config, events)
    return past


def _refuse_spent_budget(config: SweepConfig, spent_hours: float) -> None:
    cap = config.budget.device_hours
    if cap is not None and spent_hours >= cap:
        got = f"{cap:g} with {spent_hours:.3f} spent"
        raise UserError("budget.device_hours", "must leave something to spend", got, "raise it")
