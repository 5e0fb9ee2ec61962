"""What one trial needs: the typed sections of a config that reach a lane.

Every section is a frozen pydantic model in strict mode: an unknown key, a wrong type or a value out of range is an
error, never repaired. `sweeps.config` assembles these into the config of a sweep and words the errors.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from trainables.audit.rules import RULES

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Params = dict[str, float]


class Section(BaseModel):
    """A part of a config: unknown keys refused, types strict, values immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LoraConfig(Section):
    """Low-rank adapters ("LoRA", Hu et al. 2021): W + (alpha / r) B A with W frozen.

    Attributes:
        r: Rank of the update, in 1 and up.
        alpha: Numerator of the scale alpha / r.
        dropout: Dropout probability on the adapter's input, 0 to below 1.
        target_modules: "all-linear" (every linear layer but the output head) or names of modules.
    """

    r: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    target_modules: Literal["all-linear"] | list[str] = "all-linear"


class ModelConfig(Section):
    """The base model and how it is fine-tuned.

    Attributes:
        name: A Hugging Face id, a folder, a `.gguf` file, or `random:tiny-llama` (seeded random weights, for tests).
        method: "lora" trains adapters on a frozen base; "full" trains every weight.
        lora: The adapters' settings; read only when `method` is "lora".
        revision: Branch, tag or commit of a hub id.
        trust_remote_code: Run code that comes with the model; off unless you trust its author.
    """

    name: str = Field(min_length=1)
    method: Literal["lora", "full"] = "lora"
    lora: LoraConfig = LoraConfig()
    revision: str | None = None
    trust_remote_code: bool = False


class FieldNames(Section):
    """Which keys of the data files hold which part of a sample.

    Attributes:
        id: Unique in its file.
        prompt: What the model is asked.
        response: What it should answer.
        messages: A conversation, in place of `prompt` and `response`.
    """

    id: str = "id"
    prompt: str = "prompt"
    response: str = "response"
    messages: str = "messages"


def _defect_actions() -> type[Section]:
    """The section `data.on_defect`: a key for each rule of the audit."""
    meanings = "".join(
        f"        {rule.name}: {rule.must[0].upper()}{rule.must[1:]}. {rule.why}\n" for rule in RULES.values()
    )
    fields: dict[str, Any] = {rule.name: (Literal[rule.actions], rule.default) for rule in RULES.values()}
    section = create_model("DefectActions", __base__=Section, **fields)
    section.__doc__ = f"""What to do with lines that break a rule of the audit, training and held-out alike.

    "fail": no lane starts; "drop": the line is left out, and counted in `plan.json`; "keep": it is used, and reported.

    Attributes:
{meanings}"""
    return section


DefectActions: Any = _defect_actions()


class DataConfig(Section):
    """The training set.

    Attributes:
        train: A JSON Lines file (`.jsonl`, `.jsonl.gz`), a Parquet file, or a Hugging Face data-set id.
        split: Split of a hub data set; not read for files.
        fields: The keys of a sample, where they differ from `id`, `prompt`, `response`, `messages`.
        template: None for the model's chat template, or a wrapper with `{prompt}` and `{response}`.
        max_tokens: Longest sample in tokens, template included. Longer ones are never cut: see `on_defect.too_long`.
        limit: Use only the first this many samples; None for all.
        on_defect: What to do with samples that have a defect.
    """

    train: str = Field(min_length=1)
    split: str = "train"
    fields: FieldNames = FieldNames()
    template: str | None = None
    max_tokens: int = Field(512, ge=8)
    limit: int | None = Field(None, ge=1)
    on_defect: DefectActions = DefectActions()

    @field_validator("template")
    @classmethod
    def template_names_both_parts(cls, template: str | None) -> str | None:
        if template is not None and template.count("{prompt}") * template.count("{response}") != 1:
            raise ValueError("must hold {prompt} once and {response} once")
        if template is not None and template.index("{prompt}") > template.index("{response}"):
            raise ValueError("must hold {prompt} before {response}")
        return template


Scorer = str | dict[str, Any]


class AreaConfig(Section):
    """One held-out area.

    Attributes:
        path: Data in the training set's formats; a bare string in a config means this field alone.
        kind: "in_domain" (the training task) or "adjacent" (what the model should generalise to).
        weight: Weight of the area in the objective, above 0.
        role: "select" (it decides) or "sealed" (scored once, for the winner, at the end; it decides nothing).
        not_worse_by: Guard-rail, in nats a token: the winner must not be worse than the base model by more than this;
            null for none.
        scorers: Names of `trainables.scorers`, `{name: argument}`, or `package.module:function` of your own.
        max_new_tokens: Longest generated answer, in tokens.
        limit: Use only the first this many items; None for all.
    """

    path: str = Field(min_length=1)
    kind: Literal["in_domain", "adjacent"] = "adjacent"
    weight: float = Field(1.0, gt=0)
    role: Literal["select", "sealed"] = "select"
    not_worse_by: float | None = Field(0.05, ge=0)
    scorers: list[Scorer] = ["exact_match", "token_f1"]
    max_new_tokens: int = Field(32, ge=1)
    limit: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class HeldoutConfig(Section):
    """The held-out areas and when answers are generated for them.

    Attributes:
        areas: Name to area, at least one.
        answers_at: Where greedy answers are generated: the "base" model, the "last" checkpoint, or "all" checkpoints.
        batch_tokens: Tokens scored at once (a memory limit, not a result: losses do not depend on it).
        answer_batch_size: Answers generated at once.
    """

    areas: dict[str, AreaConfig] = Field(min_length=1)
    answers_at: list[Literal["base", "last", "all"]] = ["base", "last"]
    batch_tokens: int = Field(4096, ge=64)
    answer_batch_size: int = Field(32, ge=1)

    @field_validator("areas")
    @classmethod
    def an_area_selects(cls, areas: dict[str, AreaConfig]) -> dict[str, AreaConfig]:
        if all(area.role == "sealed" for area in areas.values()):
            raise ValueError("must have an area that selects: not all can be sealed")
        return areas

    @field_validator("areas")
    @classmethod
    def names_can_be_file_names(cls, areas: dict[str, AreaConfig]) -> dict[str, AreaConfig]:
        for name in areas:
            if not re.fullmatch(r"[^\W_][\w .-]{0,99}", name):
                rule = "a name is letters, digits, spaces, `.`, `_` and `-`, a letter or digit first, 100 at most"
                raise PydanticCustomError("rule", "{rule}", {"rule": rule, "got": name, "remedy": "rename the area"})
        return areas

    @property
    def weights(self) -> dict[str, float]:
        """Weight in the objective of each area that selects."""
        return {name: area.weight for name, area in self.areas.items() if area.role == "select"}

    @property
    def sealed(self) -> list[str]:
        """Areas that are scored once, for the winner."""
        return [name for name, area in self.areas.items() if area.role == "sealed"]


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
        gradient_accumulation: Batches added up before an optimiser step.
        schedule: Shape of the LR schedule; its numbers (peak, warm-up, floor) come from `space`.
        max_grad_norm: Gradients are scaled to this L2 norm at most; 0 means no clipping.
        weight_decay: AdamW's decoupled weight decay; on matrices only, not on biases and norms.
        beta1: AdamW's decay of the first moment.
        beta2: AdamW's decay of the second moment.
        eps: AdamW's epsilon.
        precision: "bf16" (autocast; frozen weights in bf16), "fp32", or "auto": bf16 where the device has it.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, more time.
        checkpoints_at: Fractions of the epoch at which a checkpoint is written and scored; the last is 1.0, the end.
    """

    batch_size: int = Field(8, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    schedule: ScheduleConfig = ScheduleConfig()
    max_grad_norm: float = Field(1.0, ge=0.0)
    weight_decay: float = Field(0.0, ge=0.0)
    beta1: float = Field(0.9, ge=0.0, lt=1.0)
    beta2: float = Field(0.999, ge=0.0, lt=1.0)
    eps: float = Field(1e-8, gt=0.0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    gradient_checkpointing: bool = False
    checkpoints_at: list[Annotated[float, Field(gt=0.0, le=1.0)]] = [0.5, 1.0]

    @field_validator("checkpoints_at")
    @classmethod
    def checkpoints_end_the_epoch(cls, fractions: list[float]) -> list[float]:
        if not fractions or fractions[-1] != 1.0 or any(a >= b for a, b in itertools.pairwise(fractions)):
            raise ValueError("must be ascending fractions that end with 1.0")
        return fractions


class WandbConfig(Section):
    """Weights & Biases.

    Attributes:
        mode: "auto" is online where an API key is known and offline elsewhere; "disabled" records nothing.
        project: Project that the runs go to.
        entity: Team or user; None for the key's default.
        tags: Tags of every run.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "llm-sweeps"
    entity: str | None = None
    tags: list[str] = []


class TrialSpec(Section):
    """One trial: its hyper-parameters, as used, and where they come from.

    Attributes:
        trial_id: Unique in the sweep; names the folder `trials/ID/`.
        seed: Seed of the sample order, the adapter's initial weights and dropout.
        params: Hyper-parameters as used, by search-space name (`peak_lr`, `warmup_fraction`, `decay_floor`, …).
        drawn: The values as drawn where one was adjusted, else None.
        kind: "search"; "replicate", another trial's params with another seed; or "subset", another trial's params and
            seed on a part of the samples.
        replicate_of: The trial that a replicate or subset trial repeats.
        fraction: Part of the training set that it is trained on; 1 but for subset trials.
    """

    trial_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    seed: int
    params: Params
    drawn: Params | None = None
    kind: Literal["search", "replicate", "subset"] = "search"
    replicate_of: str | None = None
    fraction: float = Field(1.0, gt=0, le=1)


class LaneConfig(Section):
    """What a lane is told once, for all trials that it will serve.

    Attributes:
        sweep: The sweep's name, the group of its W&B runs.
        model, data, heldout, training, wandb: The sections of the sweep's config.
        output_dir: Absolute folder of the sweep; each trial writes to `trials/ID/` in it.
        model_path: Folder from which the model and its tokenizer are loaded.
        tokenised: Arrow file of the training set, by `trainables.data`.
        tokenised_areas: Arrow file of each area, by name.
        threads: CPU threads for each worker's tensor operations.
    """

    sweep: str
    model: ModelConfig
    data: DataConfig
    heldout: HeldoutConfig
    training: TrainingConfig
    wandb: WandbConfig
    output_dir: str
    model_path: str
    tokenised: str
    tokenised_areas: dict[str, str]
    threads: int = Field(ge=1)


SEARCHABLE_LORA = {"lora_r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout"}
SEARCHABLE_TRAINING = (
    "batch_size",
    "gradient_accumulation",
    "max_grad_norm",
    "weight_decay",
    "beta1",
    "beta2",
    "eps",
)
SCHEDULE_PARAMS = ("peak_lr", "warmup_fraction", "decay_floor")


def with_params(training: TrainingConfig, lora: LoraConfig, params: Params) -> tuple[TrainingConfig, LoraConfig]:
    """Puts a trial's searched values in place of the config's, validated as the config's are.

    Args:
        training: The sweep's training section.
        lora: The sweep's adapter settings.
        params: Values by search-space name; the LR schedule's three are left to `trainables.schedule`.

    Returns:
        The two sections as this trial uses them.

    Raises:
        KeyError: A name is not searchable.
        pydantic.ValidationError: A value is out of its field's range.
    """
    train_values, lora_values = training.model_dump(), lora.model_dump()
    for name, value in params.items():
        if name in SCHEDULE_PARAMS:
            continue
        if name in SEARCHABLE_LORA:
            lora_values[SEARCHABLE_LORA[name]] = _as_field(lora, SEARCHABLE_LORA[name], value)
        elif name in SEARCHABLE_TRAINING:
            train_values[name] = _as_field(training, name, value)
        else:
            raise KeyError(f"{name} is not a searchable hyper-parameter")
    return TrainingConfig.model_validate(train_values), LoraConfig.model_validate(lora_values)


def is_integer_param(name: str) -> bool:
    """Whether a searched hyper-parameter takes whole numbers only."""
    if name in SEARCHABLE_LORA:
        return LoraConfig.model_fields[SEARCHABLE_LORA[name]].annotation is int
    return name in SEARCHABLE_TRAINING and TrainingConfig.model_fields[name].annotation is int


def _as_field(section: Section, field: str, value: float) -> float | int:
    return int(value) if type(section).model_fields[field].annotation is int else float(value)
