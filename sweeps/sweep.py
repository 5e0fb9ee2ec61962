"""What the parts of a running sweep share."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from sweeps.budget import Budget
from sweeps.config import SweepConfig
from sweeps.interrupt import Interrupt
from sweeps.ledger import Ledger
from sweeps.plan import Plan
from sweeps.resume import Past
from trainables.working_copy import WorkingCopy


@dataclass(frozen=True)
class Sweep:
    """One start of a sweep.

    Attributes:
        config: What the user wants.
        plan: What the pre-flight found.
        ledger: Where events go.
        past: Trials of earlier starts.
        budget: What it has cost, and may cost.
        interrupt: Set by Ctrl-C.
        console: Where to print.
        copy: The sweep's folder as the driver sees it, and what brings it to its store, if it lies in one.
        open_sealed_again: Sealed areas may be opened a second time.
    """

    config: SweepConfig
    plan: Plan
    ledger: Ledger
    past: Past
    budget: Budget
    interrupt: Interrupt
    console: Console
    copy: WorkingCopy
    open_sealed_again: bool = False
