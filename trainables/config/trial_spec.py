"""The specification of one trial, and the settings of a lane."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainables.config.data_sections import DataConfig, HeldoutConfig
from trainables.config.sections import MlflowConfig, ModelConfig, Section, TrainingConfig, WandbConfig


class TrialSpec(Section):
    """One trial: its hyper-parameters and their origin.

    Attributes:
        trial_id: Unique in the sweep; names the folder `trials/ID/`.
        seed: Seed of the sample order, the adapter's initial weights and dropout.
        params: Hyper-parameters as used, by search-space name (`peak_lr`, `warmup_fraction`, `decay_floor`, …).
        drawn: The values as drawn of those that were adjusted, or left out because they do nothing in this trial.
        kind: "search"; "replicate", another trial's params with another seed; "subset", another trial's params and
            seed on a part of the samples; or "retrain", another trial's params and seed on the training samples and
            all selecting held-out items.
        replicate_of: The trial whose params a trial of another kind than "search" repeats.
        fraction: Part of the training set that it is trained on; below 1 for subset trials only.
    """

    # The id names a folder, also on object stores.

    trial_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    seed: int
    params: dict[str, float | str]
    drawn: dict[str, float | str] | None = None
    kind: Literal["search", "replicate", "subset", "retrain"] = "search"
    replicate_of: str | None = None
    fraction: float = Field(1.0, gt=0, le=1)


class LaneConfig(Section):
    """Settings of a lane, equal for all its trials.

    Attributes:
        sweep: The sweep's name, the group of its W&B runs.
        model, data, heldout, training, wandb, mlflow: Sections of the sweep's config.
        output_dir: Absolute folder of the sweep; each trial writes to `trials/ID/` in it.
        model_path: Folder of the model and its tokenizer.
        tokenized: Arrow file of the training set, by `trainables.data`.
        tokenized_areas: Arrow file of each area, by name.
        threads: CPU threads for each worker's tensor operations.
        store: URL of the sweep's folder if it is in an object store. Each worker then has a local copy at `output_dir`.
        driver_epoch: Number of the driver that started the lane; see `sweeps.ledger`.
        hung_after_seconds: Time without progress that counts as a hang; None for a multiple of the trial's own steps.
        metric: `objective.metric`, by which the best checkpoint of a running trial is kept.
        statement: `objective.statement`, the notes of the W&B runs.
        data_sha256: Of the training set and the areas by name, for the W&B runs; empty where they are not known.
        sharded: Share the weights out over the lane's workers.
        keep_all_checkpoints: Keep all checkpoints of a running trial, not only the best and the last.
    """

    sweep: str
    model: ModelConfig
    data: DataConfig
    heldout: HeldoutConfig
    training: TrainingConfig
    wandb: WandbConfig
    mlflow: MlflowConfig = MlflowConfig()
    output_dir: str
    model_path: str
    tokenized: str
    tokenized_areas: dict[str, str]
    threads: int = Field(ge=1)
    store: str | None = None
    driver_epoch: int = 0
    hung_after_seconds: float | None = None
    metric: str = "nll"
    statement: str = ""
    data_sha256: dict[str, str] = Field(default_factory=dict)
    sharded: bool = False
    keep_all_checkpoints: bool = False

    def with_checkpoint(self, fraction: float) -> LaneConfig:
        """The settings with one checkpoint, at this fraction of the epoch, and the last."""
        training = self.training.model_copy(update={"checkpoints_at": sorted({fraction, 1.0})})
        return self.model_copy(update={"training": training})
