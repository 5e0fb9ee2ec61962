"""Findings of the pre-flight about the space, the epoch and the objective."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sweeps.config.environment import wandb_variables
from sweeps.config.sweep_config import SweepConfig
from sweeps.plan.lr_bounds import Bounds
from sweeps.plan.lr_scale import followed_bounds
from sweeps.search.distinct import Settings, distinct_words
from trainables.config.hyperparameters import SCHEDULE_PARAMS
from trainables.data.independence.power import ASSUMED_DISCORDANT, smallest_share_difference
from trainables.errors import UserError
from trainables.optim.lr_schedule import MOST_FLOOR_OF_PEAK

FEWEST_WARMUP_STEPS = 20  # or, in a short epoch,
FEWEST_WARMUP_PART = 0.1  # this fraction of its steps
FEWEST_OBJECTIVE_WORDS = 4
PLACEHOLDER = "Say here in a sentence"  # of the shipped configs' objective
BATCH_SIZES = (2, 16)  # recommended, sequences
NARROW = "no peak LR suits both ends of alpha and batch: search these in narrower ranges"

WANDB_VARIABLES = {"project": "WANDB_PROJECT", "tags": "WANDB_TAGS", "mode": "WANDB_DISABLED"}


@dataclass(frozen=True)
class Finding:
    """A remark for the user before the sweep starts; it does not stop the sweep."""

    rule: str
    severity: str
    message: str


@dataclass(frozen=True)
class Leaving:
    """A hyper-parameter whose range leaves the recommended bounds."""

    name: str
    ends: tuple[float, float]
    bounds: tuple[float, float]

    def words(self) -> str:
        return f"{_range(self.ends)}, recommended {_range(self.bounds)}"


def leaving_bounds(config: SweepConfig, parameters: int) -> tuple[list[Leaving], Bounds]:
    """Returns the LR schedule's hyper-parameters that leave the recommended bounds, and those bounds."""
    bounds, ends = followed_bounds(config, parameters), config.space.ends()
    found = []
    for name in SCHEDULE_PARAMS:
        low, high = getattr(bounds, name)
        if ends[name][0] < low or ends[name][1] > high:
            found.append(Leaving(name, ends[name], (low, high)))
    return found, bounds


def unexplained(config: SweepConfig, parameters: int) -> list[UserError]:
    """Returns an error for each range that leaves the recommended bounds, unless the config gives a reason."""
    if config.space.beyond_recommended is not None:
        return []
    found, bounds = leaving_bounds(config, parameters)
    reason = "set space.beyond_recommended to your reason"
    return [
        UserError(
            f"space.{leaving.name}",
            f"must keep to the recommended {_range(leaving.bounds)} ({bounds.source})",
            _range(leaving.ends),
            f"keep to them, or {reason}" if leaving.bounds[0] <= leaving.bounds[1] else f"{NARROW}, or {reason}",
        )
        for leaving in found
    ]


def space_findings(config: SweepConfig, parameters: int) -> Iterator[Finding]:
    """Yields findings about recommended bounds and the LR floor."""
    found, bounds = leaving_bounds(config, parameters)
    if found:
        text = ", ".join(f"space.{leaving.name} {leaving.words()}" for leaving in found)
        given = config.space.beyond_recommended
        why = f'the reason given: "{given}"' if given else "no reason is given"
        reason = f"{why}; source of the bounds: {bounds.source}"
        yield Finding("beyond_recommended", "warning", f"the search leaves the recommended bounds: {text}; {reason}")
    ends = config.space.ends()
    if ends["decay_floor"][1] > MOST_FLOOR_OF_PEAK * ends["peak_lr"][0]:
        text = (
            f"for the lowest peak LRs decay_floor would exceed {MOST_FLOOR_OF_PEAK:.0%} of the peak; those trials use "
            f"{MOST_FLOOR_OF_PEAK:g} × peak as floor, and both values are recorded"
        )
        yield Finding("floor_near_peak", "info", text)


def epoch_findings(config: SweepConfig, steps: int, fewest_warmup_steps: int) -> Iterator[Finding]:
    """Yields findings about warm-up, batch size and an epoch of one step.

    Args:
        config: The sweep.
        steps: Of the shortest epoch that the space allows.
        fewest_warmup_steps: Steps of its shortest warm-up.
    """
    if steps == 1:
        text = (
            "an epoch can have 1 step, whose LR is the floor: peak_lr and warmup_fraction then change nothing, and the "
            "board shows them all the same; take more data or smaller batches"
        )
        yield Finding("one_step", "warning", text)
    needed = math.ceil(min(FEWEST_WARMUP_STEPS, FEWEST_WARMUP_PART * steps))
    if steps > 1 and fewest_warmup_steps < needed:
        text = (
            f"warm-up may be only {fewest_warmup_steps} of {steps} steps (at least {needed} recommended): AdamW's "
            "moments are then estimated from few gradients when the LR is at its highest, and the loss may spike; "
            "raise the lower end of space.warmup_fraction, or take more data or a smaller batch"
        )
        yield Finding("short_warmup", "warning", text)
    low, high = BATCH_SIZES
    own = config.training.batch_size
    sizes = config.space.ends().get("batch_size")
    where = "space" if sizes else "training"
    least, most = sizes or (own, own)
    if not low <= least <= most <= high:
        text = f"{where}.batch_size={_range((least, most))} leaves the recommended {low} to {high} sequences"
        yield Finding("batch_size", "warning", text)


def distinct_findings(config: SweepConfig, samples: int) -> Iterator[Finding]:
    """Yields a finding where the space has fewer settings than there are trials; `samples` are the training set's."""
    settings = Settings(config, samples).all(enough=config.search.trials)
    if settings:
        trials, seeds = config.search.trials, config.search.seeds
        severity = "info" if len(settings) * seeds >= trials else "warning"
        yield Finding("few_settings", severity, distinct_words(len(settings), trials, seeds))


def objective_findings(config: SweepConfig) -> Iterator[Finding]:
    """Yields a finding where the objective's statement says nothing."""
    statement = config.objective.statement
    if PLACEHOLDER in statement or len(statement.split()) < FEWEST_OBJECTIVE_WORDS:
        text = (
            f'the objective "{statement}" does not say what the fine-tuned model should do better; without that '
            "the fit of data and held-out areas can't be judged: write a sentence into objective"
        )
        yield Finding("unclear_objective", "warning", text)


def template_findings(config: SweepConfig) -> Iterator[Finding]:
    """Yields a finding where a template holds a backslash and an n: what a shell makes of a line break."""
    if "\\n" in (config.data.template or ""):
        text = (
            f"data.template '{config.data.template}' holds a backslash and an n, which every sample gets as they are; "
            """for a line break put the template in double quotes: data.template='"…\\n…"'"""
        )
        yield Finding("no_line_break", "warning", text)


def metric_findings(config: SweepConfig, clusters: Mapping[str, int]) -> Iterator[Finding]:
    """Yields, where a share decides, what difference the areas can show and which checkpoints compete.

    Args:
        config: The sweep.
        clusters: Distinct contexts of each area that selects.
    """
    measure = config.objective.measure
    if not measure.higher_is_better:
        return
    low, high = ASSUMED_DISCORDANT
    least, most = (smallest_share_difference(clusters, config.heldout.weights, share) for share in (low, high))
    contexts = sum(clusters[name] for name in config.heldout.weights)
    text = (
        f"{measure.label} decides: {contexts} contexts show a difference of {100 * least:.1f} to {100 * most:.1f} "
        f"points between two checkpoints in 80 of 100 cases, before the luck of seeds; assumed: just one of the two "
        f"answers rightly on {low:.0%} to {high:.0%} of the contexts, as between trials of one sweep of a 135M model"
    )
    yield Finding("power_of_metric", "info", text)
    if "all" not in config.heldout.answers_at:
        text = f"only the last checkpoint of a trial competes by {measure.label}: heldout.answers_at has no all"
        yield Finding("last_checkpoint_only", "info", text)


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:g} to {ends[1]:g}" if ends[0] != ends[1] else f"{ends[0]:g}"


def tracking_mistakes(config: SweepConfig) -> list[UserError]:
    """Returns what keeps W&B or MLflow from taking the runs."""
    return [*missing_key(config), *missing_mlflow(config), *refused_variables(config)]


def missing_key(config: SweepConfig) -> list[UserError]:
    """Returns an error where runs must be online and W&B knows no key for that."""
    if config.wandb.mode != "online":
        return []
    from trainables.tracking import wandb_client  # imports W&B, for about a second

    if not (why := wandb_client.missing_key()):
        return []
    remedy = "run `wandb login`, set WANDB_API_KEY, or write auto: offline where there is no key"
    return [UserError("wandb.mode", "online needs an API key that W&B knows", why, remedy)]


def missing_mlflow(config: SweepConfig) -> list[UserError]:
    """Returns an error where runs must go to MLflow and it is not installed."""
    if config.mlflow.tracking_uri is None or importlib.util.find_spec("mlflow"):
        return []
    remedy = 'pip install "llm-sweeps[mlflow]", or mlflow: off'
    return [UserError("mlflow.tracking_uri", "needs the package mlflow-skinny", "none", remedy)]


def refused_variables(config: SweepConfig) -> list[UserError]:
    """Returns an error for each of W&B's environment variables with which it could open no run."""
    # The client takes a second to load: only where there is a variable that the config doesn't read.
    own = {*WANDB_VARIABLES.values(), "WANDB_API_KEY", "WANDB_ENTITY"}
    if os.environ.get("WANDB_MODE") in ("online", "offline", "disabled", "dryrun", "run", "shared"):
        own.add("WANDB_MODE")
    others = {name for name in os.environ if name.startswith("WANDB_")} - own
    if config.wandb.mode == "disabled" or not others:
        return []
    from trainables.tracking import wandb_client

    found = ((name, why) for name, why in wandb_client.refused_variables() if name not in own)
    remedy = "correct it, or unset it; wandb: off tracks nothing"
    return [UserError(name, f"W&B must take it: {why}", os.environ[name] or "nothing", remedy) for name, why in found]


def tracking_findings(config: SweepConfig) -> Iterator[Finding]:
    """Yields what W&B's environment variables have changed, and which of them don't count."""
    for key, value in wandb_variables().items():
        shown = ", ".join(value) if isinstance(value, list) else value
        used = getattr(config.wandb, key) == value
        how = f"wandb.{key} is {shown}" if used else f"it is not used, for the config names wandb.{key}"
        yield Finding("wandb_environment", "info", f"{WANDB_VARIABLES[key]} is set: {how}")
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        if os.environ.get(name):
            text = f"{name} is set: it is not used, for each trial has a run of its own"
            yield Finding("wandb_environment", "info", text)


def warm_start_mistakes(config: SweepConfig) -> list[UserError]:
    """Returns which earlier sweeps the search can't learn from, and why."""
    if not config.search.warm_start:
        return []
    from sweeps.search.warm_start import check_warm_start  # imports Optuna, which no other plan needs

    return check_warm_start(config)
