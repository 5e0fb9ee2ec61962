"""Printout of the pre-flight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape

from analysis.stats.multiple_comparisons import AUTO_FROM_TRIALS, planned_rounds
from sweeps.config.pausing import PAUSE_AT, trials_to_finish
from sweeps.config.space import Choices, Range
from sweeps.config.sweep_config import SweepConfig
from sweeps.confirm.power import POWER, detectable_gap
from sweeps.plan.datasets import SetPlan
from sweeps.plan.findings import Finding
from sweeps.plan.plan import Plan

COLORS = {"error": "red", "warning": "yellow", "info": "dim"}
SHOWN_LINES = 8


def print_plan(config: SweepConfig, plan: Plan, console: Console) -> None:
    """Prints model, data, search, cost, audit and findings of a plan."""
    for line in [
        f"[bold]{config.name}[/bold]: {escape(config.objective.statement)}",
        *_what(config, plan),
        *_cost(config, plan),
        *_audit_lines(plan.audit),
        *(_finding_line(finding) for finding in plan.findings),
    ]:
        console.print(line, highlight=False, soft_wrap=True)


def _what(config: SweepConfig, plan: Plan) -> Iterator[str]:
    share = plan.trained_parameters / plan.parameters
    trained = (
        "all weights" if config.model.method == "full" else f"LoRA r={config.model.lora.r}, about {share:.1%} of it"
    )
    yield f"model     {escape(config.model.name)}, {plan.parameters / 1e6:.1f}M parameters, training {trained}"
    yield f"training  {set_words(plan.train)}"
    for name, area in config.heldout.areas.items():
        kind = area.kind.replace("_", "-") + (", sealed" if area.role == "sealed" else "")
        yield f"held out  {name} ({kind}): {set_words(plan.areas[name])}"
    if any(plan.data_forms.values()):  # plans of earlier versions do not say
        forms = (f"{name} {_form_words(found)}" for name, found in plan.data_forms.items() if found)
        yield f"forms     {escape('; '.join(forms))}"
    shapes = config.space.choices().get("schedule_shape", (config.training.schedule.shape,))
    yield (
        f"a trial   one epoch: {plan.steps} steps of {plan.samples_per_step} samples, "
        f"{_span(plan.warmup_steps)} of them warm-up, {_span(plan.decay_steps)} after it "
        f"({' or '.join(shapes)} decay); {plan.padding:.0%} of padded batches would be padding"
    )
    space = ", ".join(f"{name} {range_words(value)}" for name, value in config.space.items().items())
    auto = " (auto)" if config.search.sampler == "auto" else ""
    yield f"search    {config.search.trials} trials by {config.search.chosen_sampler}{auto}: {space}"
    if config.trials_pause:
        finish = trials_to_finish(config.search.trials)
        yield (
            f"pausing   every trial but the first pauses after {PAUSE_AT:.0%} of its epoch and is scored there; "
            f"the best go on, so that {finish} are trained to the end"
        )
    if config.search.seeds > 1:
        yield f"seeds     {config.search.seeds} in rotation, {config.seed} to {config.search_seed(config.search.seeds)}"
    if words := confirm_words(config):
        yield f"confirm   {words}"
    if config.more_data.subsets:
        yield f"more data the winner's setting on a quarter and half of the samples: {config.more_data.trials:g} trials"


def _form_words(forms: dict[str, int]) -> str:
    return next(iter(forms)) if len(forms) == 1 else ", ".join(f"{form} {count:,}" for form, count in forms.items())


def confirm_words(config: SweepConfig) -> str:
    """What the confirmation will do and what it can tell; empty where the user wants none."""
    if not config.replicates:
        few = f"none, for {config.search.trials} trials are fewer than {AUTO_FROM_TRIALS}"
        return f"{few} (confirm.budget sets replicates)" if config.confirm.budget == "auto" else ""
    rules, settings = config.confirm, config.contenders
    if config.replicates < settings:
        return f"none: confirm.budget={config.replicates} does not pay for a replicate of each of {settings} settings"
    rounds = planned_rounds(settings, rules.rounds, config.replicates)
    gap = detectable_gap(settings, rounds, rules.alpha, rules.seed_sd is not None, rules.looks)
    if gap is None:
        told = "tells no gap: two rounds, or confirm.seed_sd, would show the luck of the seed"
    else:
        sd = rules.seed_sd
        size = f"{gap:.2g} times the luck of one seed" if sd is None else f"{gap * sd:.2g} nats a token"
        told = f"tells gaps above {size} ({POWER:.0%} power)"
    return f"{settings} settings x {rounds} more seed{'s' if rounds > 1 else ''}: {told}"


def _cost(config: SweepConfig, plan: Plan) -> Iterator[str]:
    need = plan.forecast
    hours = ", ".join(f"{_hours(value)} on {device}" for device, value in need.device_hours.items())
    cap = config.budget.device_hours
    limit = "no cap" if cap is None else f"cap {cap:g}"
    yield (
        f"compute   about {need.sweep_flops / 1e15:.2g} PFLOP: {hours}, generated answers not counted; "
        f"measured on the first steps of the run ({limit}: budget.device_hours)"
    )
    memory = "not known" if need.memory_bytes is None else f"about {need.memory_bytes / 2**30:,.1f} GiB a device"
    yield f"memory    {memory}"
    paused = f", {need.paused_bytes / 1e6:,.0f} MB of them of paused trials" if need.paused_bytes else ""
    yield f"disk      up to {need.disk_bytes / 1e6:,.0f} MB of checkpoints with one trial running{paused}"


def _audit_lines(audit: dict[str, Any]) -> Iterator[str]:
    for where, found in {"data.train": audit["train"], **audit["areas"]}.items():
        if not found["rules"]:
            continue
        yield f"audit     {where}: {found['samples_kept']:,} of {found['lines']:,} lines kept; {escape(found['path'])}"
        for rule, hits in found["rules"].items():
            color = COLORS[hits["severity"]]
            yield f"  [{color}]{rule}[/] ({hits['action']}): {_lines_words(hits)}"


def _lines_words(hits: dict[str, Any]) -> str:
    # The count, the first numbers, counts by area where there are areas, and an example.
    shown = ", ".join(map(str, hits["lines"][:SHOWN_LINES])) + (", …" if hits["count"] > SHOWN_LINES else "")
    areas = "".join(f"; {area}: {len(lines)}" for area, lines in hits.get("areas", {}).items())
    example = hits["examples"][0] if hits["examples"] else None
    text = "" if example is None else f"; e.g. line {example['line']}: {example['got']}"
    related = f" as in {example['related']}" if example and example["related"] else ""
    return escape(f"{hits['count']:,} line{'s' if hits['count'] > 1 else ''}: {shown}{areas}{text}{related}")


def _finding_line(finding: Finding) -> str:
    return f"[{COLORS[finding.severity]}]{finding.severity}[/]: {escape(finding.message)}"


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def _span(ends: tuple[int, int]) -> str:
    return f"{ends[0]:,}" if ends[0] == ends[1] else f"{ends[0]:,} to {ends[1]:,}"


def set_words(data: SetPlan) -> str:
    """One line on a data set."""
    left_out = sum(data.dropped.values())
    return (
        f"{data.samples:,} samples, {data.tokens:,} tokens ({data.label_tokens:,} trained on), "
        f"longest {data.longest_tokens:,}{f', {left_out:,} left out' if left_out else ''}; {escape(data.path)}"
    )


def range_words(value: Range | Choices | float | str) -> str:
    if isinstance(value, Range):
        return f"{value.low:g}…{value.high:g}{' (log)' if value.log else ''}"
    if isinstance(value, Choices):
        return " or ".join(value.values)
    return f"{value} (fixed)" if isinstance(value, str) else f"{value:g} (fixed)"
