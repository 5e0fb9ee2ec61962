"""The typed sections of a config that a lane needs. Their docstrings are the user's reference of config keys.

Every section is a frozen pydantic model in strict mode: an unknown key, a wrong type or a value out of range is an
error, never repaired. `sweeps.config` assembles them into the config of a sweep and words the errors.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from trainables.config.defect_rules import RULES

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# Hyper-parameters by search-space name: numbers, and texts for those of `trainables.config.hyperparameters.CHOSEN`.
Params = dict[str, Any]


class Section(BaseModel):
    """A part of a config: unknown keys refused, types strict, values immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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


class ModelConfig(Section):
    """The base model and how it is fine-tuned.

    Attributes:
        name: A Hugging Face id, a folder, a `.gguf` file, or `random:tiny-llama` (seeded random weights, for tests).
            GGUF files, and weights in `pytorch_model.bin` alone, are converted once; nothing in a pickle is run.
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
    # Made from the table of rules, so that a new rule gets its key and its documentation.
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
        # Not str.format: a wrapper may hold other braces, such as of JSON.
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
        not_worse_by: Guard-rail, in the unit of `objective.metric`: the winner must not be worse than the base model by
            more than this; null for none.
        scorers: Names of `trainables.evaluation.scorers`, `{name: argument}`, or `package.module:function` of your own.
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
        # Areas name files, such as `heldout-AREA.arrow`, and W&B metrics.
        for name in areas:
            if not re.fullmatch(r"[^\W_][\w .-]{0,99}", name):
                rule = "a name is letters, digits, spaces, `.`, `_` and `-`, a letter or digit first, 100 at most"
                raise PydanticCustomError("rule", "{rule}", {"rule": rule, "got": name, "remedy": "rename the area"})
        return areas

    @property
    def weights(self) -> dict[str, float]:
        """Weight in the objective, by name, of each area that selects."""
        return {name: area.weight for name, area in self.areas.items() if area.role == "select"}

    @property
    def sealed(self) -> list[str]:
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
        gradient_accumulation: Batches added up before an optimizer step.
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
        artifacts: Keep the winner's checkpoint (alias "best"), the data's hashes and the report, which shows held-out
            items with their texts, as artifacts of a run of the sweep's own.
        alert: Send an alert when the sweep has ended.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "llm-sweeps"
    entity: str | None = None
    tags: list[str] = []
    artifacts: bool = True
    alert: bool = False
