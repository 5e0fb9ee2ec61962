"""One chat template and one conversation: is our rendering that of `transformers`, and are the labels the answers?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from benchmarks.templates.conversations import sample
from trainables.data.samples import Sample
from trainables.data.template.chat_template import ChatTemplate
from trainables.data.template.rendering import Rendering, Span
from trainables.errors import UserError
from trainables.models.tiny_llama import byte_tokenizer

SPECIAL = re.compile(
    r"<\|[^|<>{}\s]+\|>|<｜[^｜<>{}\s]+｜>|<(?:start|end)_of_\w+>|<turn\|>|<\|turn>|\[/?[A-Z_]{3,}\]|</?s>"
)
PLAIN = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
# The first that a template writes out ends its turns; the others take it from the tokenizer.
ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eot|>",
    "<|END_OF_TURN_TOKEN|>",
    "<end_of_turn>",
    "<turn|>",
    "<|return|>",
    "<|end|>",
)
REFUSALS = (TemplateError, TypeError, ValueError, LookupError, AttributeError)


def tokenizer_for(template: str) -> Any:
    """A tokenizer of bytes, with the special tokens that the template writes."""
    made = byte_tokenizer()
    found = sorted(set(SPECIAL.findall(template)) | {"<s>", "</s>"})
    made.add_tokens([token for token in PLAIN if token in template])
    eos = next((token for token in ENDS if token in template), "</s>")
    made.add_special_tokens({"additional_special_tokens": found, "bos_token": "<s>", "eos_token": eos})
    made.chat_template = template
    return made


def compare(path: Path, name: str) -> tuple[str, str]:
    """Compares the rendering of a conversation with plain `transformers`, and its labels with the answers.

    Where the template, or its neighbour `…_training.jinja`, marks what the model writes, labels must lie inside.

    Args:
        path: A template.
        name: One of `CONVERSATIONS`.

    Returns:
        The outcome, one of a few words, and what it rests on.
    """
    template = path.read_text(encoding="utf-8")
    tokenizer, asked = tokenizer_for(template), sample(name)
    try:
        given = as_the_template_takes_it(tokenizer, asked)
        plain = tokenizer.apply_chat_template(tokenize=False, **given)
    except REFUSALS as error:
        return "refused by transformers too", str(error)
    try:
        ours = ChatTemplate(tokenizer, {}, False).render(asked)
    except UserError as error:
        dropped = "show every part" in error.rule
        return ("refused: a part would be lost" if dropped else "REFUSED"), str(error)
    added = [what for note, what in ours.notes if note == "end_token_added"]
    if (without(ours, added, plain) if added else ours.text) != plain:
        return "WRONG TEXT", ours.text
    if wrong := wrong_labels(ours, asked, tokenizer):
        return "WRONG LABEL", wrong
    oracle = path.with_name(f"{path.stem}_training.jinja")
    source = oracle.read_text(encoding="utf-8") if oracle.is_file() else template
    if not added and "generation %}" in source and (spans := generation_spans(tokenizer, source, given, plain)):
        outside = [ours.text[a:b] for a, b in ours.labels if not any(a >= start and b <= stop for start, stop in spans)]
        return ("LOOSER LABEL", repr(outside)) if outside else ("equal, labels inside {% generation %}", "")
    return ("equal but for an end token, named", repr(added)) if added else ("equal", "")


def without(ours: Rendering, added: list[str], plain: str) -> str:
    """Our text without the end tokens at the end of labels that `plain` lacks there."""
    done, text = 0, ""
    for _, stop in ours.labels:
        part = ours.text[done:stop]
        if not plain.startswith(text + part):
            part = part.removesuffix(next((token for token in added if part.endswith(token)), ""))
        done, text = stop, text + part
    return text + ours.text[done:]


def wrong_labels(ours: Rendering, asked: Sample, tokenizer: Any) -> str:
    """The first fault of the labels, or nothing: an answer without one, another's text, a header, no end token."""
    labels = [ours.text[start:stop] for start, stop in ours.labels]
    ends = {token.content for token in tokenizer.added_tokens_decoder.values()}
    answers = [m for m in asked.messages if m["role"] == "assistant"]
    if len(labels) != len(answers):
        return f"{len(labels)} labels for {len(answers)} answers: {labels}"
    for label, message in zip(labels, answers, strict=True):
        said = re.sub(r".*</think>\s*", "", message["content"], flags=re.DOTALL).strip()
        others = [m["content"] for m in asked.messages if m is not message and m["content"]]
        header = not message.get("tool_calls") and not message.get("reasoning_content") and "think" not in label
        if said not in label or any(other in label for other in others):
            return label
        if not any(label.endswith(end) for end in ends) or (header and not label.strip().startswith(said)):
            return label
    return ""


def as_the_template_takes_it(tokenizer: Any, asked: Sample) -> dict[str, Any]:
    """Arguments of `apply_chat_template`; contents are lists of parts where the template skips texts."""
    given = {"conversation": asked.messages, **({"tools": asked.tools} if asked.tools else {})}
    if asked.messages[0]["content"] in tokenizer.apply_chat_template([asked.messages[0]], tokenize=False):
        return given
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in asked.messages]
    found = asked.messages[0]["content"] in tokenizer.apply_chat_template([parts[0]], tokenize=False)
    return {**given, "conversation": parts} if found else given


def generation_spans(tokenizer: Any, source: str, given: dict[str, Any], plain: str) -> list[Span]:
    """Characters that a template marks as the model's; none where it renders another text."""
    try:
        out = tokenizer.apply_chat_template(
            chat_template=source,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"return_offsets_mapping": True},
            **given,
        )
    except REFUSALS:
        return []
    if tokenizer.decode(out["input_ids"]) != plain:
        return []
    spans: list[Span] = []
    for (start, stop), kept in zip(out["offset_mapping"], out["assistant_masks"], strict=True):
        if kept and spans and spans[-1][1] >= start:
            spans[-1] = (spans[-1][0], stop)
        elif kept:
            spans.append((start, stop))
    return spans
