"""The typed config of a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from analysis.stats.multiple_comparisons import contenders_at_most, replicates_at_most
from sweeps.config import tree
from sweeps.config.environment import expanded, from_environment, from_variable
from sweeps.config.errors import lower_first, rule, suggestion, to_user_errors
from sweeps.config.habits import METRICS
from sweeps.config.pausing import PAUSE_AT, pauses
from sweeps.config.sections import (
    BudgetConfig,
    ConfirmConfig,
    MoreDataConfig,
    NotifyConfig,
    ObjectiveConfig,
    ResourcesConfig,
    SearchConfig,
    WinnerConfig,
)
from sweeps.config.space import SpaceConfig
from trainables.config.data_sections import DataConfig, HeldoutConfig
from trainables.config.hyperparameters import ONLY_WITH, SEARCHABLE_LORA, is_integer_param, setting_of, with_params
from trainables.config.sections import MlflowConfig, ModelConfig, Section, TrainingConfig, WandbConfig
from trainables.errors import UserError, UserErrors
from trainables.evaluation.objective import ALWAYS_SCORED
from trainables.redaction import credentials_in
from trainables.storage.object_store import check_url, is_url
from trainables.storage.working_copy import DRIVER, copy_folder

NO_CREDENTIAL = "must hold no credential: the config is written to many places"
ANY_NAME = "renamed"  # stands in for a folder's name while the rest of its config is validated
KEEP_APART = "log in with the tool's own command, or set its environment variable"


class SweepConfig(Section):
    """A whole sweep.

    Attributes:
        name: Folder of the sweep below `storage_path`: letters, digits, `.`, `_`, `-`.
        seed: Seed of the search, the sample order and the adapters' initial weights.
        storage_path: Where sweeps lie: a folder that every node of the cluster sees under the same path, or an object
            store, `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`, to which credentials in the environment open the way.
        parent: The sweep that this one follows: its folder or URL, or NAME@ID (the ID is in its manifest). Links the
            two in `analysis.compare`; what the sampler learns from is `search.warm_start`.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    objective: ObjectiveConfig
    seed: int = Field(0, ge=0, le=2**62)  # torch takes 64 bits; trials and replicates count on from it
    storage_path: str = "outputs"
    parent: str | None = Field(None, min_length=1)
    model: ModelConfig
    data: DataConfig
    heldout: HeldoutConfig
    training: TrainingConfig = TrainingConfig()
    space: SpaceConfig
    search: SearchConfig = SearchConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    more_data: MoreDataConfig = MoreDataConfig()
    winner: WinnerConfig = WinnerConfig()
    budget: BudgetConfig = BudgetConfig()
    resources: ResourcesConfig = ResourcesConfig()
    wandb: WandbConfig = WandbConfig()
    mlflow: MlflowConfig = MlflowConfig()
    notify: NotifyConfig = NotifyConfig()

    @field_validator("storage_path")
    @classmethod
    def storage_path_is_a_folder_or_in_a_store(cls, path: str) -> str:
        if not path:  # as of a variable that is not set
            raise rule("must name a folder", "an empty text", "write . for the current one")
        try:
            return check_url(path, "storage_path") if is_url(path) else path
        except UserError as error:
            raise rule(error.rule, error.got, error.remedy) from None

    @property
    def trials_pause(self) -> bool:
        """Whether any search trial pauses."""
        return self.search.trial_scheduler == "pause" and pauses(self.search.trials, self.search.trials)

    @property
    def trial_training(self) -> TrainingConfig:
        """The training section of every trial: `training`, with a checkpoint where trials pause."""
        if not self.trials_pause:
            return self.training
        fractions = sorted({*self.training.checkpoints_at, PAUSE_AT})
        return self.training.model_copy(update={"checkpoints_at": fractions})

    @property
    def replicates(self) -> int:
        """Replicates at most: `confirm.budget` as a number."""
        return replicates_at_most(self.confirm.budget, self.search.trials)

    @property
    def contenders(self) -> int:
        """Settings at most that are replicated; 0 where none is."""
        return contenders_at_most(self.confirm.contenders, self.replicates) if self.replicates else 0

    def search_seed(self, number: int) -> int:
        """Seed of the search trial with this number, from 1."""
        return self.seed + (number - 1) % self.search.seeds

    @property
    def place(self) -> str:
        """The sweep's folder or URL."""
        return f"{self.storage_path}/{self.name}" if is_url(self.storage_path) else str(self.folder)

    @property
    def folder(self) -> Path:
        """The sweep's folder, or this node's working copy of its URL."""
        if is_url(self.storage_path):
            return copy_folder(self.place, DRIVER)
        return Path(self.storage_path).expanduser().resolve() / self.name


def load_config(path: str | Path, overrides: list[str] | None = None) -> SweepConfig:
    """Reads, overrides and validates the config of a sweep.

    Args:
        path: A YAML file.
        overrides: `key=value` texts; the keys are dotted paths (`search.trials=8`), the values YAML, but of a key that
            holds a text the text itself (`objective=Beat run #7`).

    Raises:
        UserError: The file can't be read, or an override has no `=`.
        UserErrors: All mistakes of the config together, a line each.
    """
    values, written = tree.read(path, overrides or [], SweepConfig)
    if secrets := list(credentials_in(values)):
        apart = {"notify": "export it as NAME, and write webhook: env:NAME"}
        raise UserErrors(
            [UserError(key, NO_CREDENTIAL, text, apart.get(key.split(".")[0], KEEP_APART)) for key, text in secrets]
        )
    values, mistakes = expanded(values)
    try:
        config = SweepConfig.model_validate(from_environment(values))
    except ValidationError as error:
        found = to_user_errors(error.errors(), SweepConfig, written.at)
        raise UserErrors([*mistakes, *(from_variable(one, values) for one in found)]) from None
    if mistakes := [*mistakes, *check_across(config)]:
        raise UserErrors(mistakes)
    return config


def load_written(path: str | Path, name: str, overrides: list[str]) -> SweepConfig:
    """Reads a config that a sweep wrote, under the present name of its folder, which may break the rules for names."""
    # A folder can be renamed to anything, and a sweep must be able to read what it wrote there.
    return load_config(path, [*overrides, f"name={ANY_NAME}"]).model_copy(update={"name": name})


def read_tree(path: str | Path, overrides: list[str]) -> dict[str, Any]:
    """Reads a YAML file as plain values, with overrides applied and interpolations resolved."""
    return tree.read(path, overrides, SweepConfig)[0]


def dump_config(config: SweepConfig) -> str:
    """Returns the resolved config as YAML; loading it gives an equal config."""
    return tree.write(config.model_dump())


def check_across(config: SweepConfig) -> list[UserError]:
    """Returns the mistakes that show only where two sections meet."""
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
