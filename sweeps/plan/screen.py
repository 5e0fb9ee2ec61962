"""Printout of the pre-flight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.stats.multiple_comparisons import AUTO_FROM_TRIALS, planned_rounds
from sweeps.config.pausing import PAUSE_AT, trials_to_finish
from sweeps.config.space import Choices, Range
from sweeps.config.sweep_config import SweepConfig
from sweeps.confirm.power import POWER, detectable_gap
from sweeps.plan.datasets import SetPlan
from sweeps.plan.findings import Finding
from sweeps.plan.memory import Fit
from sweeps.plan.plan import Plan
from trainables.data.defects import excerpt
from trainables.data.tokenization import ShownSample

COLORS = {"error": "red", "warning": "yellow", "info": "dim"}
SHOWN_LINES = 8
SHOWN_CHARACTERS = 600  # of each part of a sample
LEARNT = "⟦⟧"
SHOWN_HOURS = 1 / 60  # of a device in the forecast
SAMPLERS = {"gp": "Gaussian-process Bayesian optimization (gp)", "tpe": "tree-structured Parzen estimator (tpe)"}


def print_plan(config: SweepConfig, plan: Plan, console: Console) -> None:
    """Prints model, data, search, cost, audit and findings of a plan."""
    for line in [
        Text.assemble((config.name, "bold"), f": {config.objective.statement}"),
        *_what(config, plan),
        *cost_lines(config, plan),
        *(line for shown in plan.shown for line in sample_lines(shown)),
        *_audit_lines(plan.audit),
        *(_finding_line(finding) for finding in plan.findings),
    ]:
        # `Text`, whatever the console: texts and paths of users are no markup.
        console.print(Text(line) if isinstance(line, str) else line, soft_wrap=True)


def _what(config: SweepConfig, plan: Plan) -> Iterator[str]:
    bits = ", on weights in 4 bits" if config.model.quantize else ""
    share = plan.trained_parameters / plan.parameters
    lora = f"LoRA r={config.model.lora.r}, about {share:.1%} of it{bits}"
    trained = "all weights" if config.model.method == "full" else lora
    yield f"model     {config.model.name}, {plan.parameters / 1e6:.1f}M parameters, training {trained}"
    yield f"training  {set_words(plan.train, 'samples', 'response tokens carry loss')}"
    for name, area in config.heldout.areas.items():
        kind = area.kind.replace("_", "-") + (", sealed" if area.role == "sealed" else "")
        yield f"held-out  {name} ({kind}): {set_words(plan.areas[name], 'items', 'are scored (response)')}"
    if any(plan.data_forms.values()):  # plans of earlier versions do not say
        forms = (f"{name} {_form_words(found)}" for name, found in plan.data_forms.items() if found)
        yield f"forms     {'; '.join(forms)}"
    shapes = config.space.choices().get("schedule_shape", (config.training.schedule.shape,))
    yield (
        f"a trial   one epoch: {_span(plan.steps_ends or (plan.steps, plan.steps))} steps of "
        f"{_span(plan.samples_per_step_ends or (plan.samples_per_step, plan.samples_per_step))} samples, "
        f"warm-up {_span(plan.warmup_steps)} steps, then {' or '.join(shapes)} decay "
        f"(no padding: sequences are packed; padding would have cost {plan.padding:.0%})"
    )
    space = ", ".join(f"{name} {range_words(value)}" for name, value in config.space.items().items())
    auto = " (auto)" if config.search.sampler == "auto" else ""
    sampler = SAMPLERS.get(config.search.chosen_sampler, config.search.chosen_sampler)
    yield f"search    {config.search.trials} trials, {sampler}{auto}: {space}"
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
    if config.winner.retrain:
        sealed = ", ".join(config.heldout.sealed)
        yield f"retrain   the winner's setting once more, on selecting items too; {sealed} alone scores it"


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
        told = "shows no difference: two rounds, or confirm.seed_sd, would measure the spread between seeds"
    else:
        sd = rules.seed_sd
        size = f"{gap:.2g} times the SD between seeds" if sd is None else f"{gap * sd:.2g} nats/token"
        told = f"shows differences above {size} ({POWER:.0%} power)"
    return f"{settings} settings x {rounds} more seed{'s' if rounds > 1 else ''}: {told}"


def cost_lines(config: SweepConfig, plan: Plan) -> Iterator[str]:
    """What the sweep will need: device-hours (and money), memory, disk."""
    need = plan.forecast
    # A card that needs less than a minute says nothing of this machine.
    shown = {device: value for device, value in need.device_hours.items() if value >= SHOWN_HOURS or "CPU" in device}
    price = config.resources.price_per_device_hour
    hours = ", ".join(f"{_hours(value)} on {device}{_money(value, price)}" for device, value in shown.items())
    cap = config.budget.device_hours
    limit = "no budget cap set" if cap is None else f"capped at {cap:g}"
    yield (
        f"compute   estimated {hours}, without generated answers; refined after the first steps "
        f"({limit}: budget.device_hours)"
    )
    memory = "not known" if need.memory_bytes is None else f"about {need.memory_bytes / 2**30:,.1f} GiB a device"
    source = "" if plan.fit else " by a rule of thumb; --device NAME measures it on the model's own shape"
    yield f"memory    {memory}{source}"
    if plan.fit:
        yield f"device    {device_words(plan.fit)}"
    paused = f", {need.paused_bytes / 1e6:,.0f} MB of them of paused trials" if need.paused_bytes else ""
    yield f"disk      up to {need.disk_bytes / 1e6:,.0f} MB of checkpoints with one trial running{paused}"


def _money(hours: float, price: float | None) -> str:
    return "" if price is None else f" ({price * hours:,.2f} at {price:g} an hour)"


def device_words(fit: Fit) -> str:
    """One line on a device's memory."""
    needed, usable = fit.needed_bytes / 2**30, fit.usable_bytes / 2**30
    sizes = f"{needed:,.1f} GiB needed for whole batches of the longest sample, {usable:,.1f} GiB usable"
    if fit.needed_bytes <= fit.usable_bytes:
        return f"{fit.device}: fits, {sizes}"
    if not fit.samples:
        return f"{fit.device}: does not fit, {sizes}"
    return f"{fit.device}: fits in micro-batches of {fit.samples} of {fit.batch_size} samples, {sizes}"


def sample_lines(shown: ShownSample) -> Iterator[Text]:
    """A sample's text as the model sees it, decoded from its tokens, with marks around what is learnt."""
    yield Text(f"sample    {shown.id}, as the model sees it; it learns what stands in {LEARNT[0]} {LEARNT[1]}:")
    text = Text()
    for part, is_label in shown.parts:
        short = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in _shortened(part))
        text.append(f"{LEARNT[0]}{short}{LEARNT[1]}" if is_label else short, "green" if is_label else "")
    yield from (Text("  ") + line for line in text.split("\n", allow_blank=True))


def _shortened(text: str) -> str:
    # Both ends are shown: a template writes there.
    half = SHOWN_CHARACTERS // 2
    left_out = len(text) - 2 * half
    return text if left_out <= 0 else f"{text[:half]} … {left_out:,} characters … {text[-half:]}"


def _audit_lines(audit: dict[str, Any]) -> Iterator[str | Text]:
    for side, texts in audit.get("wrappers", {}).items():  # plans of earlier versions have none
        if texts:
            shown = ", ".join(map(excerpt, texts))
            yield f"wrapper   {side} the prompts: {shown}; leakage and duplicates are judged without it"
    for where, found in {"data.train": audit["train"], **audit["areas"]}.items():
        if not found["rules"]:
            continue
        yield f"audit     {where}: {found['samples_kept']:,} of {found['lines']:,} lines kept; {found['path']}"
        for rule, hits in found["rules"].items():
            color = COLORS[hits["severity"]]
            yield Text.assemble("  ", (rule, color), f" ({hits['action']}): {_lines_words(hits)}")


def _lines_words(hits: dict[str, Any]) -> str:
    # The count, the first numbers, counts by area where there are areas, and an example.
    shown = ", ".join(map(str, hits["lines"][:SHOWN_LINES])) + (", …" if hits["count"] > SHOWN_LINES else "")
    areas = "".join(f"; {area}: {len(lines)}" for area, lines in hits.get("areas", {}).items())
    example = hits["examples"][0] if hits["examples"] else None
    text = "" if example is None else f"; e.g. line {example['line']}: {example['got']}"
    related = f" as in {example['related']}" if example and example["related"] else ""
    return f"{hits['count']:,} line{'s' if hits['count'] > 1 else ''}: {shown}{areas}{text}{related}"


def _finding_line(finding: Finding) -> Text:
    return Text.assemble((finding.severity, COLORS[finding.severity]), f": {finding.message}")


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def _span(ends: tuple[int, int]) -> str:
    return f"{ends[0]:,}" if ends[0] == ends[1] else f"{ends[0]:,} to {ends[1]:,}"


def set_words(data: SetPlan, unit: str, labels: str) -> str:
    """One line on a data set; `labels` says what its label tokens are for."""
    left_out = sum(data.dropped.values())
    return (
        f"{data.samples:,} {unit}, {data.tokens:,} tokens, {data.label_tokens:,} {labels}, "
        f"longest {data.longest_tokens:,}{f', {left_out:,} left out' if left_out else ''}; {data.path}"
    )


def range_words(value: Range | Choices | float | str) -> str:
    if isinstance(value, Range):
        return f"{value.low:g}…{value.high:g}{' (log)' if value.log else ''}"
    if isinstance(value, Choices):
        return " or ".join(value.values)
    return f"{value} (fixed)" if isinstance(value, str) else f"{value:g} (fixed)"
