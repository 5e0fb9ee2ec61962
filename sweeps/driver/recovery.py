"""The start of a driver: it makes the sweep's files agree with the ledger, which says what is left to do."""

from __future__ import annotations

from rich.console import Console

from sweeps.config.sweep_config import SweepConfig
from sweeps.driver.budget import Budget
from sweeps.driver.context import Sweep
from sweeps.driver.interrupt import Interrupt
from sweeps.folder.cleanup import remove_leftovers
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.history import Past, last, past_of, trial_lines, write_baseline, write_trials
from sweeps.ledger.ledger import Ledger
from sweeps.plan.plan import Plan
from sweeps.search.study import rebuild_study
from trainables.errors import UserError


def open_sweep(config: SweepConfig, plan: Plan, store: SweepStore, interrupt: Interrupt, console: Console) -> Sweep:
    """Takes the next driver number in the ledger, and reads what earlier starts have done.

    Args:
        config: The sweep.
        plan: Its pre-flight.
        store: Its files.
        interrupt: Set by Ctrl-C.
        console: Where to print.

    Raises:
        UserError: The budget is spent.
    """
    ledger = Ledger.of_new_driver(config.folder, store.remote)
    past = recover(config, store, ledger, console)
    cap = config.budget.device_hours
    if cap is not None and past.device_hours >= cap:
        got = f"{cap:g} with {past.device_hours:.3f} spent"
        raise UserError("budget.device_hours", "must leave something to spend", got, "raise it")
    return Sweep(config, plan, ledger, past, Budget(0, cap, past.device_hours), interrupt, console, store)


def recover(config: SweepConfig, store: SweepStore, ledger: Ledger, console: Console) -> Past:
    """Rewrites `baseline.json`, `trials.jsonl` and the study from the ledger; returns what earlier starts have done.

    Args:
        config: The sweep.
        store: Its files.
        ledger: Its ledger.
        console: Where warnings are printed.
    """
    for fault in ledger.faults():
        console.print(f"warning: {fault}: it does not count", soft_wrap=True, highlight=False)
    events, _ = ledger.read()
    past = past_of(events)
    remove_leftovers(store, [record["trial_id"] for record in past.ended])
    # A driver killed while it recorded a trial's end leaves a trial that only the ledger knows.
    write_trials(config.folder, trial_lines(events))
    if scored := last(events, "baseline"):  # without the base model's objective no study can be built
        write_baseline(config.folder, scored["areas"])
        rebuild_study(config, events)
    return past
