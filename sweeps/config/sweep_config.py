"""The typed config of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from analysis.stats.multiple_comparisons import contenders_at_most, replicates_at_most
from sweeps.config import tree
from sweeps.config.cross_checks import check_across
from sweeps.config.environment import expanded, from_environment, from_variable
from sweeps.config.errors import rule, to_user_errors
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
from trainables.config.sections import MlflowConfig, ModelConfig, Section, TrainingConfig, WandbConfig
from trainables.errors import UserError, UserErrors
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
