"""The typed config of a sweep; the only reader of OmegaConf.

`load_config` reads YAML, applies `key=value` overrides and validates everything in one go: all mistakes come back
together, each as the one line `WHERE: RULE, got VALUE; REMEDY`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from sweeps.config_errors import lower_first, one_error_a_place, rule, suggestion, to_user_error
from trainables.config import (
    SCHEDULE_PARAMS,
    SEARCHABLE_LORA,
    SEARCHABLE_TRAINING,
    DataConfig,
    HeldoutConfig,
    ModelConfig,
    Section,
    TrainingConfig,
    WandbConfig,
    is_integer_param,
    with_params,
)
from trainables.errors import UserError, UserErrors

SEARCHABLE = (*SCHEDULE_PARAMS, *SEARCHABLE_LORA, *SEARCHABLE_TRAINING)


class Range(Section):
    """A searched interval, both ends included.

    Attributes:
        low: Lower end.
        high: Upper end, above `low`.
        log: Search on a logarithmic scale; both ends above 0 then.
    """

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def low_is_below_high(self) -> Range:
        if not self.low < self.high:
            raise rule(
                "low must be below high",
                f"low={self.low:g} high={self.high:g}",
                "swap them" if self.low > self.high else "give a number instead of a range",
            )
        if self.log and self.low <= 0:
            raise rule("low must be above 0 on a log scale", f"low={self.low:g}", "raise low or set log: false")
        return self


class SpaceConfig(Section):
    """What is searched: a range or a fixed number for each hyper-parameter.

    Beside the LR schedule's three, any other number under `training` or `model.lora` may be named
    (`max_grad_norm`, `batch_size`, `lora_r`, …).

    Attributes:
        peak_lr: Highest LR of the schedule.
        warmup_fraction: Steps of linear warm-up, as a fraction of all steps.
        decay_floor: The LR at the last step (an LR, not a ratio).
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, Range | float] = Field(init=False)

    peak_lr: Range | float
    warmup_fraction: Range | float
    decay_floor: Range | float

    @model_validator(mode="after")
    def values_are_possible(self) -> SpaceConfig:
        for name, (low, high) in self.ends().items():
            if name in ("peak_lr", "decay_floor") and low <= 0:
                raise rule(f"{name} must be above 0", f"{low:g}", "give a positive LR")
            if name == "warmup_fraction" and not 0 <= low <= high < 1:
                raise rule("warmup_fraction must lie in 0 to below 1", f"{low:g} to {high:g}", "3-10 % is usual")
        (_, floor_high), (_, peak_high) = self.ends()["decay_floor"], self.ends()["peak_lr"]
        if floor_high > peak_high:
            raise rule(
                "decay_floor must not exceed peak_lr",
                f"decay_floor up to {floor_high:g}, peak_lr up to {peak_high:g}",
                "lower decay_floor",
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def names_are_searchable(cls, values: Any) -> Any:
        unknown = [name for name in values if name not in SEARCHABLE] if isinstance(values, dict) else []
        if unknown:
            raise rule("is not a searchable hyper-parameter", unknown[0], suggestion(unknown[0], SEARCHABLE))
        return values

    def items(self) -> dict[str, Range | float]:
        """Every hyper-parameter of the space by name."""
        named = {name: getattr(self, name) for name in SCHEDULE_PARAMS}
        return {**named, **(self.__pydantic_extra__ or {})}

    def ends(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of every hyper-parameter; equal for a fixed one."""
        return {k: (v.low, v.high) if isinstance(v, Range) else (v, v) for k, v in self.items().items()}


class ObjectiveConfig(Section):
    """What the fine-tune is for.

    Attributes:
        statement: One or two sentences; they head every report. A bare string in a config means this field.
    """

    statement: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def statement_alone(cls, value: Any) -> Any:
        return {"statement": value} if isinstance(value, str) else value


class SearchConfig(Section):
    """How the space is searched.

    Attributes:
        trials: Trials in all.
        sampler: Optuna's sampler: "gp" (Gaussian process), "tpe", "random" or "qmc" (quasi-random).
        startup_trials: Quasi-random or random trials before "gp" and "tpe" begin to model.
        seed_points: "recommended" tries the recommended point first; or a list of points; [] for none.
        trial_scheduler: Who stops trials: "none", or Ray Tune's "asha" or "median" on the held-out objective.
    """

    trials: int = Field(16, ge=1)
    sampler: Literal["gp", "tpe", "random", "qmc"] = "gp"
    startup_trials: int = Field(4, ge=1)
    seed_points: Literal["recommended"] | list[dict[str, float]] = "recommended"
    trial_scheduler: Literal["none", "asha", "median"] = "none"


class ResourcesConfig(Section):
    """What the sweep may use.

    Attributes:
        lanes: Trials trained at once, or "auto": what the cluster has (on CPUs one lane a node).
        workers_per_lane: GPUs (or CPU workers) that one trial is trained on, data-parallel.
        trials_per_lane: Trials packed into one lane; this version trains one at a time.
        cpus_per_worker: CPUs of each worker, or "auto".
        max_failures: How often a trial is tried again after an error or a lost worker.
    """

    lanes: Literal["auto"] | int = "auto"
    workers_per_lane: int = Field(1, ge=1)
    trials_per_lane: Literal[1] = 1
    cpus_per_worker: Literal["auto"] | int = "auto"
    max_failures: int = Field(2, ge=0)

    @field_validator("lanes", "cpus_per_worker")
    @classmethod
    def is_positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise rule("must be 1 or more", value, "give a positive number or auto")
        return value


class SweepConfig(Section):
    """A whole sweep.

    Attributes:
        name: Folder of the sweep below `storage_path`: letters, digits, `.`, `_`, `-`.
        seed: Seed of the search, the sample order and the adapters' initial weights.
        storage_path: Where sweeps lie; seen by every node of the cluster.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    objective: ObjectiveConfig
    seed: int = Field(0, ge=0)
    storage_path: str = "outputs"
    model: ModelConfig
    data: DataConfig
    heldout: HeldoutConfig
    training: TrainingConfig = TrainingConfig()
    space: SpaceConfig
    search: SearchConfig = SearchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    wandb: WandbConfig = WandbConfig()

    @property
    def folder(self) -> Path:
        """Where everything of this sweep is written."""
        return Path(self.storage_path).expanduser().resolve() / self.name


def load_config(path: str | Path, overrides: list[str] | None = None) -> SweepConfig:
    """Reads, overrides and validates the config of a sweep.

    Args:
        path: A YAML file.
        overrides: `key=value` texts; the keys are dotted paths (`search.trials=8`), the values YAML.

    Raises:
        UserError: The file can't be read, or an override has no `=`.
        UserErrors: Every mistake of the config, together.
    """
    tree = read_tree(path, overrides or [])
    try:
        config = SweepConfig.model_validate(tree)
    except ValidationError as error:
        raise UserErrors([to_user_error(detail, SweepConfig) for detail in one_error_a_place(error.errors())]) from None
    mistakes = check_across(config)
    if mistakes:
        raise UserErrors(mistakes)
    return config


def read_tree(path: str | Path, overrides: list[str]) -> dict[str, Any]:
    """The YAML file as plain values, overrides applied and interpolations resolved."""
    bad = [item for item in overrides if "=" not in item]
    if bad:
        raise UserError("arguments", "an override must be key=value", bad[0], "write for instance search.trials=8")
    try:
        loaded: Any = OmegaConf.load(path)
        if isinstance(loaded, DictConfig):
            _spell_out_areas(loaded)
            loaded = OmegaConf.merge(loaded, OmegaConf.from_dotlist(overrides))
        tree = OmegaConf.to_container(loaded, resolve=True)
    except OSError as error:
        raise UserError(str(path), "the config must be a readable file", error.strerror, "check the path") from None
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UserError(str(path), "the config must be valid YAML", str(error), "mend that place") from None
    if not isinstance(tree, dict):
        raise UserError(str(path), "the config must be a mapping", type(tree).__name__, "start from conf/demo.yaml")
    return tree  # type: ignore[return-value]


def _spell_out_areas(loaded: DictConfig) -> None:
    """An area given as a bare path becomes a mapping, so that `heldout.areas.NAME.limit=…` adds to it."""
    areas = OmegaConf.select(loaded, "heldout.areas")
    for name in areas if isinstance(areas, DictConfig) else ():
        if isinstance(areas[name], str):
            areas[name] = {"path": areas[name]}


def dump_config(config: SweepConfig) -> str:
    """The resolved config as YAML; loading it again gives an equal config."""
    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump()), sort_keys=False)


def check_across(config: SweepConfig) -> list[UserError]:
    """Mistakes that show only where two sections meet."""
    mistakes = []
    ends = config.space.ends()
    for name in ends:
        if name in SEARCHABLE_LORA and config.model.method == "full":
            mistakes.append(
                UserError(f"space.{name}", "is read only with model.method=lora", "full", "leave it out of the space")
            )
        if is_integer_param(name) and any(value != int(value) for value in ends[name]):
            mistakes.append(UserError(f"space.{name}", "must be whole numbers", ends[name], "round both ends"))
    points = config.search.seed_points if isinstance(config.search.seed_points, list) else []
    for number, point in enumerate(points):
        for name, value in point.items():
            where = f"search.seed_points[{number}].{name}"
            if name not in ends:
                mistakes.append(UserError(where, "must be in the space", name, suggestion(name, list(ends))))
            elif not ends[name][0] <= value <= ends[name][1]:
                low, high = ends[name]
                mistakes.append(UserError(where, f"must lie in {low:g} to {high:g}", f"{value:g}", "move it inside"))
    return mistakes + _impossible_values(config, ends)


def _impossible_values(config: SweepConfig, ends: dict[str, tuple[float, float]]) -> list[UserError]:
    """Ends of the space that `training` or `model.lora` would refuse as a fixed value."""
    mistakes = []
    for name, values in ends.items():
        for value in dict.fromkeys(values):
            try:
                with_params(config.training, config.model.lora, {name: value})
            except ValidationError as error:
                detail = error.errors()[0]
                mistakes.append(UserError(f"space.{name}", lower_first(detail["msg"]), f"{value:g}", "move that end"))
    return mistakes
