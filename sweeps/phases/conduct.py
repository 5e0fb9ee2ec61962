"""A sweep on its lanes, phase by phase, and what the ledger and the manifest keep of its start and end."""

from __future__ import annotations

import sys

from analysis.terminal import lost_streams
from sweeps.driver.context import Sweep, lane_settings
from sweeps.driver.supervisor import supervised
from sweeps.folder.identity import identify
from sweeps.folder.manifest import Manifest, precisions
from sweeps.folder.origin import completed
from sweeps.lanes import cluster, lanes
from sweeps.lanes.cluster import LanePlan
from sweeps.lanes.lane_share import LaneShare
from sweeps.lanes.lanes import Lanes
from sweeps.phases.baseline import is_enough, score_base_losses, score_baseline
from sweeps.phases.confirm import confirm_winner
from sweeps.phases.packing import choose_slots
from sweeps.phases.rehearsal import rehearse
from sweeps.phases.retrain import retrain_winner
from sweeps.phases.sealed_areas import open_sealed
from sweeps.phases.search import search_trials
from sweeps.phases.subsets import train_on_subsets
from trainables.redaction import redact


def conduct(sweep: Sweep, lane_plan: LanePlan, *, grows: bool, resumed: bool, share: LaneShare | None = None) -> str:
    """Starts the lanes and searches on them; records start and end in the ledger and the manifest.

    Args:
        sweep: This start of the sweep.
        lane_plan: Its lanes.
        grows: Whether lanes are added for nodes that join.
        resumed: Whether the sweep has been started before.
        share: Says how many of the lanes the sweep may hold; None for all.

    Returns:
        How the sweep ended: as returned by `search`, or `failed`.
    """
    config, plan, ledger = sweep.config, sweep.plan, sweep.ledger
    state, identity = "failed", identify(config, ledger)
    origin = completed(sweep.began, config, plan.model_path)
    described = {**identity, "data_forms": plan.data_forms}
    with Manifest.opened(config, plan.model_path, cluster.hardware(), described, origin, resumed=resumed) as manifest:
        started = {**identity, "origin": origin, "config": config.model_dump(mode="json"), "resumed": resumed}
        ledger.append("sweep_started", name=config.name, lanes=lane_plan.lanes, **started)
        sweep.store.publish_top_files()
        try:
            settings = lane_settings(config, plan, lane_plan.cpus, ledger.epoch, origin["data_sha256"])
            most = config.resources.max_failures
            with lanes.running(lane_plan, settings, most, grows=grows, share=share) as running:
                state = search(sweep, running)
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        except lanes.LanesFailedError as error:
            print(f"error: {redact(str(error))}", file=sys.stderr)
        finally:  # also after an error that ends the program: a resumed sweep reads the cost so far from here
            for stream, why in lost_streams().items():
                ledger.append("console_lost", stream=stream, why=why)
            ledger.append("sweep_ended", state=state, device_hours=sweep.budget.spent_hours())
            manifest.state, manifest.fields["precision"] = state, precisions(ledger)
    return state


def search(sweep: Sweep, running: Lanes) -> str:
    """Tries the longest batch and scores the base model, then searches, confirms the winner, and scores sealed areas.

    Returns:
        How the sweep ended: `complete`, `interrupted`, `not_needed` or `budget_spent`.
    """
    with supervised(sweep, running) as supervisor:
        rehearse(sweep, supervisor)
        baseline = score_baseline(sweep, supervisor)
        if baseline is not None:
            sweep.ledger.append("baseline", areas=baseline)
            if is_enough(sweep, baseline):
                return "not_needed"
            sweep.budget.search_begins()
            score_base_losses(supervisor)
            choose_slots(sweep, supervisor)
            search_trials(sweep, supervisor, baseline)
            if not supervisor.cut_short:
                confirm_winner(sweep, supervisor, baseline)
            if not supervisor.cut_short:
                train_on_subsets(sweep, supervisor, baseline)
            if not supervisor.cut_short:
                retrain_winner(sweep, supervisor, baseline)
            if not supervisor.cut_short:
                open_sealed(sweep, supervisor, again=sweep.open_sealed_again)
    if not supervisor.cut_short:
        return "complete"
    return "interrupted" if sweep.interrupt.is_set() else "budget_spent"
