"""The typed sections of a config that a lane needs. Their docstrings are the user's reference of config keys.

Every section is a frozen pydantic model in strict mode: an unknown key, a wrong type or a value out of range is an
error, never repaired. `sweeps.config` assembles them into the config of a sweep and words the errors.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from trainables.config.defect_rules import RULES

# Arguments of `transformers`' `apply_chat_template` that are no variables of a template, or come from the data.
OWN_TEMPLATE_ARGS = frozenset(
    [
        "conversation",
        "messages",
        "tools",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "sanitize_control_tokens",
    ]
)
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# Hyper-parameters by search-space name: numbers, and texts for those of `trainables.config.hyperparameters.CHOSEN`.
Params = dict[str, Any]


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
        id: Unique in its file. Without the key `id` samples are named by their line.
        prompt: What the model is asked: a text, or messages.
        response: What it should answer: a text, or messages.
        messages: A conversation, in place of `prompt` and `response`.
        system: A system message, put first.
        tools: Definitions of the tools that the model may call.
        input: A second part of the prompt, put on a line below it. The default is read beside `instruction` alone.
        history: Earlier turns, as pairs of prompt and response or as messages.
        text: A plain text, of which every token is learnt.
        metadata: Keys of rows and messages that are metadata, though other tools give them a meaning.
    """

    id: str = "id"
    prompt: str = "prompt"
    response: str = "response"
    messages: str = "messages"
    system: str = "system"
    tools: str = "tools"
    input: str = "input"
    history: str = "history"
    text: str = "text"
    metadata: list[str] = []


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


DataFormat = Literal[
    "auto", "messages", "sharegpt", "prompt_response", "prompt_completion", "alpaca", "query_response", "text"
]


class DataConfig(Section):
    """The training set.

    Attributes:
        train: A file of JSON Lines, JSON (`.jsonl`, `.json`, each also with `.gz`), CSV or Parquet, or a Hugging Face
            data-set id.
        split: Split of a hub data set; not read for files.
        format: The form of the rows in all files. "auto" takes the one whose keys a row has; the plan says which.
        fields: The keys of a sample, where they differ from the defaults.
        template: None for the model's chat template, or a wrapper with `{prompt}` and `{response}`.
        chat_template: A file with a Jinja chat template, in place of the model's own.
        template_args: Variables for the chat template by name, such as `enable_thinking: false` or `date_string`.
        train_on_template_text: Learn and score also what the chat template writes between its generation prompt and an
            answer, such as an empty thought. By default the model is given that text, for the base model's scores too.
        max_tokens: Longest sample in tokens, template included. Longer ones are never cut: see `on_defect.too_long`.
            Only rows of plain text are, into windows of this many tokens.
        limit: Use only the first this many samples; None for all.
        on_defect: What to do with samples that have a defect.
    """

    train: str = Field(min_length=1)
    split: str = "train"
    format: DataFormat = "auto"
    fields: FieldNames = FieldNames()
    template: str | None = None
    chat_template: str | None = Field(None, min_length=1)
    template_args: dict[str, Any] = {}
    train_on_template_text: bool = False
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

    @field_validator("chat_template", "template_args")
    @classmethod
    def only_for_chat_templates(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("template") is not None:
            raise ValueError("must be left out with data.template, which is no chat template")
        return value

    @field_validator("template_args")
    @classmethod
    def args_are_not_ours(cls, args: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(args.keys() & OWN_TEMPLATE_ARGS):
            raise ValueError(f"must leave {', '.join(taken)} to the data and to this program")
        return args


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
        domain: Tag of items that have no key `domain`; scores are told by tag.
        source: The same for `source`.
        skill: The same for `skill`.
    """

    short_form: ClassVar = "path"

    path: str = Field(min_length=1)
    kind: Literal["in_domain", "adjacent"] = "adjacent"
    weight: float = Field(1.0, gt=0)
    role: Literal["select", "sealed"] = "select"
    not_worse_by: float | None = Field(0.05, ge=0)
    scorers: list[Scorer] = ["exact_match", "token_f1"]
    max_new_tokens: int = Field(32, ge=1)
    limit: int | None = Field(None, ge=1)
    domain: str | None = Field(None, min_length=1)
    source: str | None = Field(None, min_length=1)
    skill: str | None = Field(None, min_length=1)


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
        micro_batch_tokens: Tokens of a batch that go through the model at once; the loss does not depend on it. "auto"
            takes whole batches, and halves them where the device's memory runs out; a number is a limit from the start.
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
    micro_batch_tokens: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
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
        mode: "auto" is online where an API key is known and offline elsewhere; "disabled" records nothing. `wandb: off`
            (or `false`, `null`) means "disabled"; another bare word in a config means this field.
        project: Project that the runs go to.
        entity: Team or user; None for the key's default.
        tags: Tags of every run.
        artifacts: Keep the winner's checkpoint (alias "best"), the data's hashes and the report, which shows held-out
            items with their texts, as artifacts of a run of the sweep's own.
        alert: Send an alert when the sweep has ended.
    """

    short_form: ClassVar = "mode"
    off: ClassVar = {"mode": "disabled"}

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "llm-sweeps"
    entity: str | None = None
    tags: list[str] = []
    artifacts: bool = True
    alert: bool = False
