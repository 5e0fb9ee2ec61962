"""The pre-flight as a user sees it."""

from __future__ import annotations

from rich.console import Console

from sweeps.config import Range, SweepConfig
from sweeps.plan import Plan
from sweeps.prepare import SetPlan


def print_plan(config: SweepConfig, plan: Plan, console: Console) -> None:
    """Prints what will be trained, on what, and what deserves a second look."""
    say = lambda text: console.print(text, highlight=False, soft_wrap=True)  # noqa: E731
    say(f"[bold]{config.name}[/bold]: {config.objective.statement}")
    share = plan.trained_parameters / plan.parameters
    trained = (
        "all weights" if config.model.method == "full" else f"LoRA r={config.model.lora.r}, about {share:.1%} of it"
    )
    say(f"model     {config.model.name}, {plan.parameters / 1e6:.1f}M parameters, training {trained}")
    say(f"training  {set_words(plan.train)}")
    for name, area in config.heldout.areas.items():
        say(f"held out  {name} ({area.kind.replace('_', '-')}): {set_words(plan.areas[name])}")
    low, high = plan.warmup_steps
    say(
        f"a trial   one epoch: {plan.steps} steps of {plan.samples_per_step} samples, "
        f"{low if low == high else f'{low} to {high}'} of them warm-up, {config.training.schedule.shape} decay"
    )
    space = ", ".join(f"{name} {range_words(value)}" for name, value in config.space.items().items())
    say(f"search    {config.search.trials} trials by {config.search.sampler}: {space}")
    say(f"disk      up to {plan.disk_bytes / 1e6:,.0f} MB of checkpoints")
    colours = {"warning": "yellow", "info": "dim"}
    for finding in plan.findings:
        say(f"[{colours[finding.severity]}]{finding.severity}[/]: {finding.message}")


def set_words(data: SetPlan) -> str:
    """A data set in a line."""
    return (
        f"{data.samples:,} samples, {data.tokens:,} tokens ({data.label_tokens:,} trained on), "
        f"longest {data.longest_tokens:,}; {data.path}"
    )


def range_words(value: Range | float) -> str:
    """A searched range, or a fixed value."""
    if isinstance(value, Range):
        return f"{value.low:g}…{value.high:g}{' (log)' if value.log else ''}"
    return f"{value:g} (fixed)"
