"""The context that the parts of a running sweep share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console

from sweeps.config.sweep_config import SweepConfig
from sweeps.driver.budget import Budget
from sweeps.driver.interrupt import Interrupt
from sweeps.folder.origin import Origin
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.history import Past
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.trial_record import StoppedTrials
from sweeps.plan.plan import Plan
from trainables.config.trial_spec import LaneConfig
from trainables.storage.layout import CACHE_FOLDER, TRAIN_FILE, area_file
from trainables.storage.object_store import is_url


@dataclass(frozen=True)
class Sweep:
    """One start of a sweep.

    Attributes:
        config: The user's config.
        plan: The pre-flight's result.
        ledger: The sweep's event log.
        past: Trials of earlier starts.
        budget: Device-hours spent and allowed.
        interrupt: Set by Ctrl-C.
        console: Where to print.
        store: The sweep's files.
        open_sealed_again: Sealed areas may be opened a second time.
        began: What a resumed sweep began with; nothing of a new one.
        stopped: Trials that the pruner has stopped; shared by the pruner, the recorder and the search.
    """

    config: SweepConfig
    plan: Plan
    ledger: Ledger
    past: Past
    budget: Budget
    interrupt: Interrupt
    console: Console
    store: SweepStore
    open_sealed_again: bool = False
    began: Origin = field(default_factory=dict)
    stopped: StoppedTrials = field(default_factory=StoppedTrials)


def lane_settings(
    config: SweepConfig, plan: Plan, threads: int, driver_epoch: int = 0, data_sha256: Mapping[str, str] | None = None
) -> LaneConfig:
    """Builds the settings that every lane of the sweep gets when it starts.

    Args:
        config: The sweep.
        plan: Its pre-flight.
        threads: CPU threads of each worker.
        driver_epoch: The driver's number; a lane of an older driver is refused by the store.
        data_sha256: Of the data by name, where known.
    """
    cache, resources = config.folder / CACHE_FOLDER, config.resources
    return LaneConfig(
        sweep=config.name,
        model=config.model,
        data=config.data,
        heldout=config.heldout,
        training=config.trial_training,
        wandb=config.wandb,
        mlflow=config.mlflow,
        output_dir=str(config.folder),
        model_path=plan.model_path,
        tokenized=str(cache / TRAIN_FILE),
        tokenized_areas={name: str(cache / area_file(name)) for name in config.heldout.areas},
        threads=threads,
        store=config.place if is_url(config.storage_path) else None,
        driver_epoch=driver_epoch,
        hung_after_seconds=None if resources.hung_after_seconds == "auto" else resources.hung_after_seconds,
        metric=config.objective.metric,
        statement=config.objective.statement,
        data_sha256=dict(data_sha256 or {}),
        sharded=resources.shards(config.model.method),
        keep_all_checkpoints=resources.keep_checkpoints == "all",
    )
