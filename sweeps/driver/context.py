"""What the parts of a running sweep share."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from sweeps.config.sweep_config import SweepConfig
from sweeps.driver.budget import Budget
from sweeps.driver.interrupt import Interrupt
from sweeps.ledger.history import Past
from sweeps.ledger.ledger import Ledger
from sweeps.plan.plan import Plan
from trainables.config.trial_spec import LaneConfig
from trainables.storage.layout import CACHE_FOLDER, TRAIN_FILE, area_file
from trainables.storage.object_store import is_url
from trainables.storage.working_copy import WorkingCopy


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


def lane_settings(config: SweepConfig, plan: Plan, threads: int, driver_epoch: int = 0) -> LaneConfig:
    """What every lane of the sweep is told once.

    Args:
        config: The sweep.
        plan: Its pre-flight.
        threads: CPU threads of each worker.
        driver_epoch: The driver's number; what lanes of older drivers write does not count.
    """
    cache, resources = config.folder / CACHE_FOLDER, config.resources
    return LaneConfig(
        sweep=config.name,
        model=config.model,
        data=config.data,
        heldout=config.heldout,
        training=config.training,
        wandb=config.wandb,
        output_dir=str(config.folder),
        model_path=plan.model_path,
        tokenized=str(cache / TRAIN_FILE),
        tokenized_areas={name: str(cache / area_file(name)) for name in config.heldout.areas},
        threads=threads,
        store=config.place if is_url(config.storage_path) else None,
        driver_epoch=driver_epoch,
        hung_after_seconds=None if resources.hung_after_seconds == "auto" else resources.hung_after_seconds,
        keep_all_checkpoints=resources.keep_checkpoints == "all",
    )
