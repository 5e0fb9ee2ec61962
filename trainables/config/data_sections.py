"""The sections of a config about data: the training set and the held-out areas.

Their docstrings are user documentation, as those of `trainables.config.sections`.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, create_model, field_validator
from pydantic_core import PydanticCustomError

from trainables.config.defect_rules import RULES
from trainables.config.sections import Section

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
    metadata: list[str] = Field(default_factory=list)


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
    template_args: dict[str, Any] = Field(default_factory=dict)
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
    scorers: list[Scorer] = Field(["exact_match", "token_f1"])
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
    answers_at: list[Literal["base", "last", "all"]] = Field(["base", "last"])
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
