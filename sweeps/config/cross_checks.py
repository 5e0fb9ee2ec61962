"""Mistakes of a config that show only where two of its sections meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sweeps.config.errors import lower_first, suggestion
from sweeps.config.habits import METRICS
from trainables.config.hyperparameters import ONLY_WITH, SEARCHABLE_LORA, is_integer_param, setting_of, with_params
from trainables.errors import UserError
from trainables.evaluation.objective import ALWAYS_SCORED

if TYPE_CHECKING:
    from sweeps.config.sweep_config import SweepConfig


def check_across(config: SweepConfig) -> list[UserError]:
    """Returns the mistakes, a line each; the sections by themselves are valid."""
    return [
        *_misplaced_params(config),
        *_bad_seed_points(config),
        *_bad_resources(config),
        *_trained_in_4_bits(config),
        *_impossible_values(config),
        *_unreachable_enough(config),
        *_unmeasured_metric(config),
        *_unjudged_retraining(config),
    ]


def _misplaced_params(config: SweepConfig) -> Iterator[UserError]:
    for name in config.space.items():
        if name in SEARCHABLE_LORA and config.model.method == "full":
            yield UserError(f"space.{name}", "is read only with model.method=lora", "full", "leave it out of the space")
    for name, values in config.space.ends().items():
        if is_integer_param(name) and any(value != int(value) for value in values):
            yield UserError(f"space.{name}", "must be whole numbers", values, "round both ends")
    own, choices = setting_of(config.training, None), config.space.choices()
    for name, (other, value) in ONLY_WITH.items():
        if name in config.space.ends() and value not in (possible := choices.get(other, (own[other],))):
            rule = f"does something only where {other} is {value}"
            yield UserError(f"space.{name}", rule, ", ".join(possible), f"add {value}, or leave {name} out")


def _bad_seed_points(config: SweepConfig) -> Iterator[UserError]:
    ends, choices = config.space.ends(), config.space.choices()
    points = config.search.seed_points if isinstance(config.search.seed_points, list) else []
    for number, point in enumerate(points):
        for name, value in point.items():
            where = f"search.seed_points[{number}].{name}"
            if name not in ends and name not in choices:
                yield UserError(where, "must be in the space", name, suggestion(name, [*ends, *choices]))
            elif name in choices and value not in choices[name]:
                known = list(choices[name])
                yield UserError(where, "must be one of the choices", value, suggestion(str(value), known))
            elif isinstance(value, str) and name in ends:
                yield UserError(where, "must be a number", repr(value), f"leave out the quotes: {value}")
            elif name in ends and not ends[name][0] <= float(value) <= ends[name][1]:
                low, high = ends[name]
                yield UserError(where, f"must lie in {low:g} to {high:g}", value, "move it inside")


def _bad_resources(config: SweepConfig) -> Iterator[UserError]:
    packed, most = config.resources.trials_per_lane, config.resources.keep_checkpoints
    if config.resources.shard is True and config.resources.workers_per_lane == 1:
        rule, remedy = (
            "needs workers to share the weights out over",
            "set it to auto, or raise resources.workers_per_lane",
        )
        yield UserError("resources.shard", rule, "workers_per_lane=1", remedy)
    if config.resources.shard is True and config.model.quantize:
        # A layer in 4 bits is written out from blocks of 64 values, which would end at a worker's share.
        rule, remedy = "must be auto or false where the base is quantized", "set it to auto, or model.quantize=null"
        yield UserError("resources.shard", rule, f"model.quantize={config.model.quantize}", remedy)
    if config.training.optimizer == "adamw_8bit" and config.resources.shards(config.model.method):
        # Its blocks of 256 values would end at a worker's share: not what one worker computes.
        rule, remedy = "must be adamw where workers share the weights out", "set it, or resources.shard=false"
        yield UserError("training.optimizer", rule, "adamw_8bit", remedy)
    if config.training.compile and config.resources.shards(config.model.method):
        # Not tried: layers that gather their weights in hooks.
        rule, remedy = "must be false where workers share the weights out", "set it, or resources.shard=false"
        yield UserError("training.compile", rule, True, remedy)
    if packed != 1 and config.training.gradient_checkpointing and "lora_dropout" in config.space.ends():
        # The recomputed forward pass would draw another dropout mask.
        rule = "must be 1 where activations are recomputed and dropout is searched"
        yield UserError("resources.trials_per_lane", rule, packed, "set it to 1")
    if packed != 1 and len(config.space.choices().get("target_modules", ())) > 1:
        rule = "must be 1 where target_modules is searched: trials that adapt different layers can't train side by side"
        yield UserError("resources.trials_per_lane", rule, packed, "set it to 1")
    contenders = config.contenders
    if contenders and most != "all" and most <= contenders:
        rule = f"must be above the number of settings that are confirmed ({contenders}): each of them may win"
        remedy = f"set it to {contenders + 1} or more, or confirm.budget to 0"
        yield UserError("resources.keep_checkpoints", rule, most, remedy)


def _trained_in_4_bits(config: SweepConfig) -> Iterator[UserError]:
    if config.model.quantize and config.model.method == "full":
        rule, remedy = "needs a frozen base: model.method=lora", "set it to null, or model.method to lora"
        yield UserError("model.quantize", rule, f"{config.model.quantize} with full", remedy)


def _impossible_values(config: SweepConfig) -> Iterator[UserError]:
    # Ends of the space that `training` or `model.lora` would refuse as a fixed value.
    for name, values in {**config.space.ends(), **config.space.choices()}.items():
        for value in dict.fromkeys(values):
            try:
                with_params(config.training, config.model.lora, {name: value})
            except ValidationError as error:
                message = lower_first(error.errors()[0]["msg"])
                got, remedy = (value, "change it") if isinstance(value, str) else (f"{value:g}", "move that end")
                yield UserError(f"space.{name}", message, got, remedy)


def _unreachable_enough(config: SweepConfig) -> Iterator[UserError]:
    enough, areas = config.objective.enough, config.heldout.weights
    if enough is None:
        return
    if enough.area is not None and enough.area not in areas:
        remedy = suggestion(enough.area, list(areas))
        yield UserError("objective.enough.area", "must be a held-out area that selects", enough.area, remedy)
    if enough.metric != "nll" and not {"base", "all"} & set(config.heldout.answers_at):
        rule, remedy = "needs answers of the base model", "add base to heldout.answers_at, or use nll"
        yield UserError("objective.enough.metric", rule, enough.metric, remedy)


def _unmeasured_metric(config: SweepConfig) -> Iterator[UserError]:
    metric, answers_at = config.objective.metric, set(config.heldout.answers_at)
    if not config.objective.measure.higher_is_better:
        return
    rule = f"must make answers for objective.metric={metric}, of the base model and of checkpoints"
    if missing := [one for one in ("base", "last") if not {one, "all"} & answers_at]:
        given = ", ".join(config.heldout.answers_at) or "none"
        yield UserError("heldout.answers_at", rule, given, f"add {' and '.join(missing)}, or all")
    for name in config.heldout.weights:
        known = {*ALWAYS_SCORED, *(_scorer_name(scorer) for scorer in config.heldout.areas[name].scorers)}
        if metric not in known:
            rule = f"must be nll or a scorer of every selecting area; {name} has {', '.join(sorted(known))}"
            ours = METRICS.get(metric.lower())
            remedy = f"did you mean {ours}?" if ours else f"add it to heldout.areas.{name}.scorers"
            yield UserError("objective.metric", rule, metric, remedy)


def _unjudged_retraining(config: SweepConfig) -> Iterator[UserError]:
    if config.winner.retrain and not config.heldout.sealed:
        rule = "needs a sealed area: all others are trained on"
        yield UserError("winner.retrain", rule, "none", "set heldout.areas.NAME.role to sealed, or retrain to false")


def _scorer_name(scorer: str | dict[str, Any]) -> str:
    return scorer if isinstance(scorer, str) else str(next(iter(scorer), ""))
