"""Table of the rules that lines of a data file must keep; `trainables.data.audit` applies them.

Findings are shown in this order, and a line that several rules drop counts for the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trainables.errors import UserError

Severity = Literal["error", "warning", "info"]
Action = Literal["fail", "drop", "keep"]

MAX_LINE_BYTES = 16 * 2**20
ANY: tuple[Action, ...] = ("fail", "drop", "keep")
NOT_KEPT: tuple[Action, ...] = ("fail", "drop")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for lines of a data file.

    Attributes:
        name: Its key in `RULES`, and under `data.on_defect`.
        severity: "error" damages the model or the scores, "warning" may, "info" is worth a look.
        default: The action that a careful person would take.
        actions: Allowed actions; unusable lines cannot be kept.
        must: The rule in the words of an error.
        remedy: Advice to the user.
        why: The harm that such lines do.
    """

    name: str
    severity: Severity
    default: Action
    actions: tuple[Action, ...]
    must: str
    remedy: str
    why: str


def _rule(name: str, severity: Severity, default: Action, must: str, remedy: str, why: str) -> Rule:
    return Rule(name, severity, default, ANY, must, remedy, why)


def _unusable(name: str, must: str, remedy: str, why: str) -> Rule:
    return Rule(name, "error", "fail", NOT_KEPT, must, remedy, why)


_TABLE = (
    _unusable(
        "broken_json",
        "must be one JSON object",
        "correct or remove the line",
        "The sample is lost, and a file that was cut off or glued together usually lost more than the line that shows.",
    ),
    _unusable(
        "not_utf8",
        "must be UTF-8 text",
        "save the file as UTF-8",
        "Bytes of another encoding cannot be read; guessed at, every accent and currency sign would turn to noise.",
    ),
    _rule(
        "byte_order_mark",
        "info",
        "keep",
        "a file should not begin with a byte-order mark",
        "save the file as UTF-8 without one",
        "It is passed over. Other programs take it for a part of the first key and lose the sample.",
    ),
    _unusable(
        "broken_row",
        "must have a cell for each column",
        "correct or remove the row",
        "A cell too many or too few moves texts into other columns: a comma or quote in a text was not escaped.",
    ),
    _unusable(
        "line_too_long",
        f"must be at most {MAX_LINE_BYTES // 2**20} MiB long",
        "split or remove the line",
        "No model reads a sample of this size; the line ends are missing, or the file is of another format.",
    ),
    _unusable(
        "wrong_type",
        "must be an object of texts",
        "correct or remove the line",
        "A list, number or null in the place of a text would be trained on as Python's or JSON's way to write it.",
    ),
    _unusable(
        "missing_field",
        "must hold the texts of a known form, such as prompt and response, or messages",
        "add it, or map its name in data.fields",
        "Without question or answer a sample teaches nothing.",
    ),
    _unusable(
        "ambiguous_form",
        "must not hold different texts in two forms",
        "choose one by data.format, map its keys in data.fields, or name the other's in data.fields.metadata",
        "Only one of them can be trained on, and nothing in the row says which.",
    ),
    _unusable(
        "unreadable_part",
        "must hold nothing but text",
        "remove it, or name its key in data.fields.metadata",
        "The model would learn answers to something that it never saw.",
    ),
    _unusable(
        "turn_mark",
        "a mark must say of a whole turn of the assistant whether it is learnt: 0 or 1, true or false",
        "correct the mark, or name its key in data.fields.metadata to learn every turn of the assistant",
        "A turn is learnt whole or not at all; a fraction, a part of a turn or a turn of the user cannot be.",
    ),
    _unusable(
        "nothing_to_learn",
        "must hold a turn of the assistant that is learnt",
        "correct the marks or remove the sample",
        "Every turn is marked as not to be learnt, so that the sample teaches nothing and scores nothing.",
    ),
    _unusable(
        "invalid_text",
        "text must be valid Unicode",
        "remove the unpaired surrogates",
        "Half a character cannot be written as UTF-8: the tokenizer would fail or learn a replacement character.",
    ),
    _unusable(
        "empty_id",
        "the id must not be empty",
        "give the sample an id",
        "The ids of each step prove what was trained on; an empty one names nothing.",
    ),
    _unusable(
        "empty_prompt",
        "the prompt must not be empty",
        "complete or remove the sample",
        "An answer to nothing teaches the model to say it after any prompt.",
    ),
    _unusable(
        "empty_response",
        "the response must not be empty",
        "complete or remove the sample",
        "The model learns to end at once: a few such samples are enough to make it refuse to answer.",
    ),
    _unusable(
        "empty_group",
        "a group must not be empty",
        "name the group, or leave the key out",
        "Samples of one context are resampled together; an empty name would join strangers to one group.",
    ),
    _unusable(
        "turn_order",
        "messages must hold a prompt and end with the assistant",
        "complete or remove the sample",
        "The loss is taken on the assistant's turns; a conversation that ends with another one trains on too little "
        "or on the wrong side.",
    ),
    _unusable(
        "repeated_id",
        "ids must be unique in a file",
        "remove the copy or give it another id",
        "One epoch is proved by every id being seen once; with a repeated id nothing is proved, and scores of two "
        "samples fall together.",
    ),
    _rule(
        "exact_duplicate",
        "warning",
        "drop",
        "must not repeat the text of an earlier line",
        "remove the copy, or set data.on_defect.exact_duplicate=drop",
        "A copy is trained on twice in what is called one epoch: its weight doubles and the model learns it by heart. "
        "In a held-out area it counts twice.",
    ),
    _rule(
        "near_duplicate",
        "warning",
        "drop",
        "must not repeat an earlier line but for spaces, case or a few letters",
        "remove the copy, or set data.on_defect.near_duplicate=drop",
        "To the model it is the same sample once more: learned by heart, in a data set that is smaller than it looks.",
    ),
    _rule(
        "conflicting_responses",
        "warning",
        "keep",
        "the same prompt must have the same response",
        "decide which response is right, or tell the two prompts apart",
        "Two answers to one question pull in opposite directions: the loss cannot fall below the disagreement. "
        "Kept by default, for several good answers to an open question are sound data.",
    ),
    _rule(
        "leakage",
        "error",
        "fail",
        "must not hold a held-out item",
        "remove it from the training set, take the item out of the held-out area, or set data.on_defect.leakage=drop",
        "An item is held where text or prompt are equal, or 80 % of its words stand in the line in runs of 13, the "
        "instruction around prompts left out. The held-out score then measures memory, and the whole sweep picks the "
        "trial that memorises best.",
    ),
    _rule(
        "area_overlap",
        "warning",
        "keep",
        "must not hold an item of another held-out area",
        "remove it from one of the areas, or set data.on_defect.area_overlap=drop",
        "Two areas that share items are no independent evidence, and the item counts twice in the objective.",
    ),
    _unusable(
        "too_long",
        "must be at most data.max_tokens tokens long",
        "raise data.max_tokens, shorten the sample, or set data.on_defect.too_long=drop",
        "A sample is never cut: cut, it would lose its answer or its question and teach to stop in the middle.",
    ),
    _rule(
        "mojibake",
        "error",
        # Not "drop": one wrong decoding step damages every accent, dash and currency sign of a file. Dropping would
        # silently remove one sort of sample, and the step can be corrected at its source.
        "fail",
        "must not hold text decoded with the wrong encoding",
        "decode the source again as UTF-8, or set data.on_defect.mojibake",
        "The model learns to write the garbage, and rare tokens in the place of a dash or a euro sign hide the text "
        "from what it knows.",
    ),
    _rule(
        "control_characters",
        "warning",
        "keep",
        "must not hold invisible control characters",
        "remove them, or set data.on_defect.control_characters",
        "They become tokens of their own that no user ever types, and the model may learn to answer with them.",
    ),
    _rule(
        "format_departure",
        "warning",
        "keep",
        "must have the format of the other samples",
        "bring the sample into the common format, or set data.on_defect.format_departure",
        "The model learns when to answer from the marks around a prompt; samples with other marks teach a second "
        "format that the held-out items never ask for.",
    ),
    _rule(
        "response_length",
        "info",
        "keep",
        "the response should be of a usual length",
        "look at the sample: a cut or pasted text is often behind it",
        "The loss of a step is a mean over tokens: one response a hundred times as long as the others outweighs them.",
    ),
)

RULES: dict[str, Rule] = {rule.name: rule for rule in _TABLE}


def default_actions() -> dict[str, Action]:
    return {name: rule.default for name, rule in RULES.items()}


def chosen_actions(changed: Mapping[str, str]) -> dict[str, Action]:
    """Replaces default actions by the user's.

    Raises:
        UserError: A rule does not exist, or does not allow the action.
    """
    actions = default_actions()
    for name, action in changed.items():
        rule = RULES.get(name)
        if rule is None:
            raise UserError("data.on_defect", "must name a rule of the audit", name, f"choose of {', '.join(RULES)}")
        allowed = {one: one for one in rule.actions}  # narrows the type of `action` from str
        if action not in allowed:
            raise UserError(f"data.on_defect.{name}", f"must be {' or '.join(allowed)}", action, "choose one of them")
        actions[name] = allowed[action]
    return actions
