"""The command that runs a sweep: plan, search, ranking.

python -m sweeps.run CONFIG [key=value …] [--plan [--json]] [--resume DIR] [--address ADDR]
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from analysis.cli import DONE, Parser, run
from analysis.terminal import guarded_streams, show_plainly
from sweeps.config.paths import with_absolute_paths
from sweeps.config.sweep_config import SweepConfig, dump_config, load_config
from sweeps.driver.interrupt import Interrupt
from sweeps.driver.storage_errors import reported_in_one_line
from sweeps.folder.driver_lock import LEASE_SECONDS, one_driver
from sweeps.folder.driver_lock_in_store import one_driver_in_store
from sweeps.folder.origin import Origin
from sweeps.folder.sweep_folder import claim_folder, draft_folder, scratch_folder
from sweeps.folder.sweep_store import SweepStore, publish_plan
from sweeps.lanes.lane_share import LaneShare
from sweeps.notify import webhook
from sweeps.phases.finish import finish
from sweeps.plan.memory import hold_against
from sweeps.plan.plan import Plan, make_plan
from sweeps.plan.resumed import lost_sets, restored, unchanged
from sweeps.plan.screen import print_plan
from trainables.errors import UserError, UserErrors
from trainables.storage.atomic import write_whole
from trainables.storage.layout import SWEEP_FILE
from trainables.storage.object_store import is_url

# Modules that import Ray are imported where they are used: `--plan` and user errors do without, in a second or two.

AUTO = "auto"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    show_plainly()
    options = parse(arguments)
    # Whatever becomes of the terminal, the sweep goes on: to its leaderboard, its report and those who are told.
    with guarded_streams():
        # Texts and paths of users are no markup and no emoji.
        console = Console(
            soft_wrap=not sys.stdout.isatty(), markup=False, emoji=False, highlight=False, stderr=options.json
        )
        return run(lambda: act(options, console))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "python -m sweeps.run",
        "Searches LR schedules for a fine-tune: one epoch a trial, scored on held-out areas, ranked.",
        "example: python -m sweeps.run conf/demo.yaml search.trials=4 name=my-first-sweep",
    )
    parser.add_argument("config", nargs="?", help="a YAML file, such as conf/demo.yaml; not needed with --resume")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    parser.add_argument("--plan", action="store_true", help="stop after the pre-flight; no GPU is used")
    parser.add_argument(
        "--json", action="store_true", help="with --plan: print the plan as plan.json has it, and write no folder"
    )
    parser.add_argument(
        "--device",
        metavar="NAME|GiB",
        help="hold the plan against a card's memory (a100-80gb, h100, l4, … or GiB): exit 2 where no trial fits",
    )
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="continue the interrupted sweep in this folder, or at this URL; auto: that of CONFIG, if it has begun",
    )
    parser.add_argument(
        "--open-sealed-again", action="store_true", help="score sealed areas a second time; the ledger records it"
    )
    parser.add_argument(
        "--other-versions", action="store_true", help="resume with other releases of torch, transformers or peft"
    )
    parser.add_argument("--address", help="a running Ray cluster; without it a local one is started")
    # The service's own: where it says how many lanes the sweep may hold.
    parser.add_argument("--lane-share", type=lambda stem: LaneShare(Path(stem)), help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args(arguments)
    # With --resume no config is needed, and the first override is taken for it.
    if options.resume and options.config and "=" in options.config and not Path(options.config).exists():
        options.config, options.overrides = None, [options.config, *options.overrides]
    if not options.config and options.resume in (None, AUTO):
        parser.error("must name a config, or a sweep with --resume DIR")
    if options.json and not options.plan:
        parser.error("--json prints a plan, and needs --plan")
    return options


def act(options: argparse.Namespace, console: Console) -> int:
    """Resumes a sweep, or starts a new one."""
    if options.resume == AUTO:
        options.resume = place_if_begun(options)
    if not options.resume:
        return start_sweep(options, console)
    if Path(options.resume).is_file():
        remedy = f"give its folder: --resume {shlex.quote(str(Path(options.resume).parent))}"
        raise UserError("--resume", "must name the folder of a sweep", f"{options.resume}, a file", remedy)
    return resume_sweep(options, console)


def place_if_begun(options: argparse.Namespace) -> str | None:
    """The folder or URL of the config's sweep, if it has been started before: one command both starts and resumes."""
    place = load_config(options.config, options.overrides).place
    return place if SweepStore.of_reader(place).is_taken() else None


def start_sweep(options: argparse.Namespace, console: Console) -> int:
    """Plans a new sweep, and runs it unless only the plan is asked for."""
    config = load_config(options.config, options.overrides)
    webhook.address(config.notify)  # a wrong address is found before the sweep has cost anything
    with scratch_folder(config) if options.json else draft_folder(config) as draft:
        plan = make_plan(config, draft)
        if options.device:
            hold_against(config, plan, options.device)
        show_plan(config, plan, options, console)
        if options.plan and not options.json:
            write_plan(config, plan, draft)
        if plan.failures:
            raise UserErrors(plan.failures)
        if options.plan:
            return DONE
        return run_sweep(config, plan, draft, options, console)


def resume_sweep(options: argparse.Namespace, console: Console) -> int:
    """Continues an interrupted sweep: ended trials stay, unfinished ones are trained first."""
    before = SweepStore.of_reader(options.resume)
    before.fetch_top_files()
    config, plan, began = unchanged(
        before.folder,
        options.config,
        options.overrides,
        other_versions=options.other_versions,
        say=partial(console.print, soft_wrap=True),
    )
    webhook.address(config.notify)
    if options.device:
        hold_against(config, plan, options.device)
    show_plan(config, plan, options, console)
    if plan.failures:
        raise UserErrors(plan.failures)
    if not options.plan:
        return run_sweep(config, plan, None, options, console, began)
    if not before.remote and (lost := lost_sets(config, before.folder, plan, began)):
        console.print(f"the tokenized data of {', '.join(lost)} is gone or damaged: the sweep makes it anew")
    return DONE


def run_sweep(
    config: SweepConfig,
    plan: Plan,
    draft: Path | None,
    options: argparse.Namespace,
    console: Console,
    began: Origin | None = None,
) -> int:
    """Holds the sweep's locks and the Ray cluster while the sweep runs, then ranks its trials.

    Args:
        config: The sweep.
        plan: Its pre-flight.
        draft: The folder to claim for a new sweep; None for a resumed one.
        options: The command line: `address`, `lane_share` and `open_sealed_again` are read.
        console: Where to print.
        began: What a resumed sweep began with.

    Returns:
        The command's exit code.
    """
    from sweeps.driver.recovery import open_sweep
    from sweeps.lanes import cluster
    from sweeps.phases.conduct import conduct
    from sweeps.phases.rehearsal import hold_against_cluster

    config, began = with_absolute_paths(config), began or {}
    store, home = SweepStore.of_driver(config.place), draft or config.folder
    home.mkdir(parents=True, exist_ok=True)
    with (
        one_driver(home, LEASE_SECONDS),
        one_driver_in_store(store.remote),
        Interrupt() as interrupt,
        reported_in_one_line(config.folder, interrupt),
        restored(config, plan, None if draft else store, began, console),
        cluster.connected(options.address),
    ):
        interrupt.arm()  # again: Ray has replaced the handlers
        joined = options.address is not None  # nodes may join such a cluster; a local one stays as it is
        lane_plan = cluster.plan_lanes(config.resources, may_grow=joined)
        shared = " at most, shared with other sweeps" if options.lane_share else ""
        console.print(f"{lane_plan.words()}{shared}", highlight=False)
        if lane_plan.use_gpu:
            hold_against_cluster(config, plan, cluster.hardware()["accelerators"], console)
        write_whole(home / SWEEP_FILE, dump_config(config))
        plan.write(home)
        if draft:
            claim_folder(draft, store)
        sweep = open_sweep(config, plan, store, interrupt, console)
        sweep = replace(sweep, open_sealed_again=options.open_sealed_again, began=began)
        grows = joined and config.resources.lanes == "auto"
        state = conduct(sweep, lane_plan, grows=grows, resumed=draft is None, share=options.lane_share)
        store.publish_top_files()
    return finish(config, store, state, sweep.budget.spent_hours(), console)


def show_plan(config: SweepConfig, plan: Plan, options: argparse.Namespace, console: Console) -> None:
    """Prints the plan, for a reader or as JSON.

    Args:
        config: The sweep.
        plan: Its pre-flight.
        options: The command line: `json` is read.
        console: Where to print for a reader.
    """
    if options.json:
        print(plan.as_json())
    else:
        print_plan(config, plan, console)


def write_plan(config: SweepConfig, plan: Plan, draft: Path) -> None:
    # Only the plan: the draft's other files are removed with it.
    if is_url(config.storage_path):
        plan.write(draft)
        publish_plan(draft, config.place)
    else:
        plan.write(config.folder)


if __name__ == "__main__":
    sys.exit(main())
