"""The typed sections of a config that a lane needs. Their docstrings are the user's reference of config keys.

Every section is a frozen pydantic model in strict mode: an unknown key, a wrong type or a value out of range is an
error, never repaired. `sweeps.config` assembles them into the config of a sweep and words the errors.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# Hyper-parameters by search-space name: numbers, and texts for those of `trainables.config.hyperparameters.CHOSEN`.
Params = dict[str, Any]
MLFLOW_STORES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


class Section(BaseModel):
    """A part of a config: unknown keys refused, types strict, numbers finite, values immutable.

    Class attributes:
        short_form: The key that a bare text in the section's place means; None where there is no such form.
        off: The section that `false` or `null` in its place means; None where they mean nothing.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    short_form: ClassVar[str | None] = None
    off: ClassVar[dict[str, Any] | None] = None

    @model_validator(mode="before")
    @classmethod
    def short_forms_are_spelled_out(cls, value: Any) -> Any:
        if cls.off is not None and (value is None or value is False):
            return cls.off
        return {cls.short_form: value} if cls.short_form and isinstance(value, str) else value


class LoraConfig(Section):
    """Low-rank adapters ("LoRA", Hu et al. 2021): W + (alpha / r) B A with W frozen.

    Attributes:
        r: Rank of the update, in 1 and up.
        alpha: Numerator of the scale alpha / r.
        dropout: Dropout probability on the adapter's input, 0 to below 1; 0 where experts are adapted.
        target_modules: "all-linear" (every linear layer and all experts; not the output head, routers, and towers for
            images or sound) or names of modules. `--plan` names what gets no adapter.
    """

    r: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    target_modules: Literal["all-linear"] | list[str] = "all-linear"

    @field_validator("target_modules")
    @classmethod
    def something_is_adapted(cls, value: str | list[str]) -> str | list[str]:
        if not value:
            raise ValueError("must name a module")
        return value


class ModelConfig(Section):
    """The base model and how it is fine-tuned.

    Attributes:
        name: A Hugging Face id, a folder, a `.gguf` file, or `random:tiny-llama` (seeded random weights, for tests).
            GGUF files, and weights in `pytorch_model.bin` alone, are converted once; nothing in a pickle is run.
        method: "lora" trains adapters on a frozen base; "full" trains every weight.
        lora: The adapters' settings; read only when `method` is "lora".
        quantize: "nf4" keeps the frozen linear layers in 4 bits (QLoRA), about 0.5 bytes a weight in place of 2, and
            writes each out where it is used. Adapters, embeddings, the output head and experts stay as they are. Needs
            `pip install 'llm-sweeps[nf4]'`, and `method` "lora". null keeps all weights in `training.precision`.
        revision: Branch, tag or commit of a hub id.
        trust_remote_code: Run code that comes with the model; off unless you trust its author.
    """

    name: str = Field(min_length=1)
    method: Literal["lora", "full"] = "lora"
    lora: LoraConfig = LoraConfig()
    quantize: Literal["nf4"] | None = None
    revision: str | None = None
    trust_remote_code: bool = False


class ScheduleConfig(Section):
    """The shape of the LR schedule between its peak and its floor.

    Attributes:
        shape: "linear", "cosine", "step" (down at given points) or "wsd" (warm-up, stable, decay).
        step_at: For "step": fractions of the epoch at which the LR falls, ascending.
        decay_fraction: For "wsd": the last part of the epoch in which the LR decays, as a fraction of the epoch.
    """

    shape: Literal["linear", "cosine", "step", "wsd"] = "linear"
    step_at: list[Fraction] = [0.5, 0.75]
    decay_fraction: float = Field(0.2, gt=0.0, le=1.0)

    @field_validator("step_at")
    @classmethod
    def step_at_ascends(cls, points: list[float]) -> list[float]:
        if not points or any(a >= b for a, b in itertools.pairwise(points)):
            raise ValueError("must be ascending fractions, at least one")
        return points


class TrainingConfig(Section):
    """How a trial trains its one epoch.

    Attributes:
        batch_size: Sequences in a batch on each worker, 2 to 16 recommended.
        gradient_accumulation: Batches added up before an optimizer step.
        schedule: Shape of the LR schedule; its numbers (peak, warm-up, floor) come from `space`.
        max_grad_norm: Gradients are scaled to this L2 norm at most; 0 means no clipping.
        weight_decay: AdamW's decoupled weight decay; on matrices only, not on biases and norms.
        optimizer: "adamw" keeps both moments of each weight in float32, 8 bytes. "adamw_8bit" (bitsandbytes) keeps them
            in 2: for full fine-tuning, where memory is short. Its steps are coarser, docs/performance.md measures by
            how much; adapters then train one at a time. Needs `pip install 'llm-sweeps[nf4]'`. Trained weights stay in
            float32 with both. In bf16 an update of 1e-5 on a weight of 0.02 is below half a step (2^-9 of the weight),
            and lost. Low LRs would look worse than they are, and the sweep would choose wrong.
        beta1: AdamW's decay of the first moment.
        beta2: AdamW's decay of the second moment.
        eps: AdamW's epsilon.
        precision: "bf16" (autocast; frozen weights in bf16), "fp32", or "auto": bf16 where the device has it.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, more time.
        compile: Compile each decoder layer (`torch.compile`). The losses stay the same up to rounding; whether it is
            faster depends on the card, and no figures are claimed here. CPUs need a C++ compiler.
        micro_batch_tokens: Tokens of a batch that go through the model at once; the loss does not depend on it. "auto"
            takes whole batches, and halves them where the device's memory runs out; a number is a limit from the start.
        checkpoints_at: Fractions of the epoch at which a checkpoint is written and scored; the last is 1.0, the end.
    """

    batch_size: int = Field(8, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    schedule: ScheduleConfig = ScheduleConfig()
    max_grad_norm: float = Field(1.0, ge=0.0)
    weight_decay: float = Field(0.0, ge=0.0)
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    beta1: float = Field(0.9, ge=0.0, lt=1.0)
    beta2: float = Field(0.999, ge=0.0, lt=1.0)
    eps: float = Field(1e-8, gt=0.0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False
    micro_batch_tokens: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    checkpoints_at: list[Annotated[float, Field(gt=0.0, le=1.0)]] = [0.5, 1.0]

    @field_validator("checkpoints_at")
    @classmethod
    def checkpoints_end_the_epoch(cls, fractions: list[float]) -> list[float]:
        if not fractions or fractions[-1] != 1.0 or any(a >= b for a, b in itertools.pairwise(fractions)):
            raise ValueError("must be ascending fractions that end with 1.0")
        return fractions


class WandbArtifactsConfig(Section):
    """What is kept as artifacts of the sweep's own run; `true` means these defaults, `false` nothing.

    Attributes:
        checkpoint: The winner's checkpoint, with the alias "best".
        data_hashes: The data's hashes, never the data.
        report: The report, and a table of held-out items with the answers; both show held-out texts.
    """

    off: ClassVar = {"checkpoint": False, "data_hashes": False, "report": False}

    checkpoint: bool = True
    data_hashes: bool = True
    report: bool = False

    @model_validator(mode="before")
    @classmethod
    def true_means_the_defaults(cls, value: Any) -> Any:
        return {} if value is True else value


class MlflowConfig(Section):
    """MLflow, beside W&B or in its place: a run for each trial. Needs `pip install "llm-sweeps[mlflow]"`.

    Attributes:
        tracking_uri: Where runs go: an MLflow server (`https://…`; credentials come from the environment), or a
            database, such as `sqlite:////absolute/path/mlflow.db`. null for nowhere. A bare text in the section's
            place means this field; `mlflow: off` means null.
        experiment: The experiment that the runs belong to; it is made if it is not there.
    """

    short_form: ClassVar = "tracking_uri"
    off: ClassVar = {}

    tracking_uri: str | None = None
    experiment: str = Field("llm-sweeps", min_length=1)

    @field_validator("tracking_uri")
    @classmethod
    def is_a_server_or_database(cls, uri: str | None) -> str | None:
        scheme = (uri or "").partition("://")[0].partition("+")[0]
        if uri is not None and scheme not in MLFLOW_STORES:
            # MLflow itself has refused folders since 3.13.
            raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in MLFLOW_STORES)}")
        if scheme == "sqlite" and not (uri or "").partition("://")[2].startswith("//"):
            raise ValueError("must be an absolute path with four slashes (sqlite:////…): trials run in other folders")
        return uri


class WandbConfig(Section):
    """Weights & Biases.

    Attributes:
        mode: "auto" is online where an API key is known and offline elsewhere; "disabled" records nothing. `wandb: off`
            (or `false`, `null`) means "disabled"; another bare word in a config means this field.
        project: Project that the runs go to.
        entity: Team or user; None for the key's default.
        tags: Tags of every run.
        artifacts: What is kept as artifacts of the sweep's own run.
        alert: Send an alert of each event that `notify.events` names; by default when the sweep has ended.
    """

    short_form: ClassVar = "mode"
    off: ClassVar = {"mode": "disabled"}

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "llm-sweeps"
    entity: str | None = None
    tags: list[str] = []
    artifacts: WandbArtifactsConfig = WandbArtifactsConfig()
    alert: bool = False

    @field_validator("project")
    @classmethod
    def project_is_one_of_wandbs(cls, value: str) -> str:
        if not re.fullmatch(r"[^/\\#?%:]{1,128}", value):
            raise ValueError(r"must have 1 to 128 characters and none of / \ # ? % :")
        return value

    @field_validator("tags")
    @classmethod
    def tags_are_of_wandbs_length(cls, value: list[str]) -> list[str]:
        if any(not 1 <= len(tag) <= 64 for tag in value):
            raise ValueError("must be tags of 1 to 64 characters")
        return value
