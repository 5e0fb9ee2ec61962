"""Memory before the baseline: the plan against the cluster's card, and the longest batch trained once on a lane."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console

from sweeps.config.sweep_config import SweepConfig
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.phases.packing import known_slots
from sweeps.plan.memory import CONTEXT_BYTES, GIB, SIZES, hold_against, make_request, remedy, smallest_card
from sweeps.plan.plan import Plan
from sweeps.plan.screen import device_words
from trainables.errors import UserError, UserErrors
from trainables.lane.messages import JobEnd


def hold_against_cluster(config: SweepConfig, plan: Plan, accelerators: Collection[str], console: Console) -> None:
    """Compares the plan with the smallest card of the cluster, before a lane has loaded anything.

    Args:
        config: The sweep.
        plan: Its pre-flight; gets its `fit`.
        accelerators: Ray's names of the cluster's accelerator types.
        console: Where to print.

    Raises:
        UserErrors: No trial fits.
    """
    card = smallest_card(accelerators)
    if card is None:
        return
    try:
        # Without the margin, which is ours: what may just fit is tried by `rehearse`, what can't is refused here.
        hold_against(config, plan, card, "resources", margin=False)
    except UserError as error:
        console.print(f"no forecast for this cluster's {card}, because {error.got}: the longest batch is tried first")
        return
    if plan.failures:
        raise UserErrors(plan.failures)
    if plan.fit:
        console.print(f"the smallest card here, {device_words(plan.fit)}", highlight=False)


def rehearse(sweep: Sweep, supervisor: Supervisor) -> None:
    """Has a lane with a GPU train a batch of the longest sample. A resumed sweep may have another card: again.

    Raises:
        LanesFailedError: It could not be tried.
        UserError: Not even one sample fits.
    """
    # On CPUs memory that runs out ends the process, and the machine has more of it than its GPUs.
    if not supervisor.lanes.plan.use_gpu:
        return
    config, asked = sweep.config, sweep.config.resources.trials_per_lane
    slots = known_slots(sweep) or (1 if asked == "auto" else asked)
    params = {name: ends[1] for name, ends in config.space.ends().items() if name in SIZES}
    ends = supervisor.run_jobs(
        {"rehearsal": {"do": "rehearsal", "params": params, "slots": slots}},
        failure=lambda _: "the longest batch could not be tried",
    )
    if ends is None:
        return
    found = ends["rehearsal"]
    seen = {
        name: found[name] for name in ("device", "memory_bytes", "peak_bytes", "slots", "micro_batch_tokens", "refusal")
    }
    sweep.ledger.append("rehearsed", **seen)
    if found["refusal"]:
        raise refusal(sweep, found)
    supervisor.say(words(found))


def refusal(sweep: Sweep, found: JobEnd) -> UserError:
    """The error of a sweep of which no trial fits, with a remedy that the forecast says does."""
    rule = f"a sample of {found['longest_tokens']} tokens must fit into the memory of {found['device']}"
    got = f"{found['refusal']}".partition(": ")[0]
    if sweep.past.ended or sweep.past.paused:  # what would save memory may not change any more
        return UserError("training", rule, got, "resume the sweep on a card with more memory")
    try:
        help_ = remedy(make_request(sweep.config, sweep.plan), (found["memory_bytes"] or 0) - CONTEXT_BYTES)
    except UserError:  # the model's code does not run without data
        help_ = "set training.gradient_checkpointing=true, or lower data.max_tokens"
    return UserError("training", rule, got, f"{help_}, and give the sweep another name: nothing is trained yet")


def words(found: JobEnd) -> str:
    """The line for the user: what of the card the longest batch took."""
    whole = f"{found['samples']} samples of {found['longest_tokens']} tokens"
    many = f" of each of {found['slots']} trials" if found["slots"] > 1 else ""
    memory = ""
    if found["memory_bytes"] and found["peak_bytes"]:
        memory = f": {found['peak_bytes'] / GIB:.1f} of {found['memory_bytes'] / GIB:.1f} GiB of {found['device']}"
    parts = f" in parts of at most {limit} tokens" if (limit := found["micro_batch_tokens"]) else ""
    return f"the longest batch, {whole}{many}, fits{parts}{memory}"
