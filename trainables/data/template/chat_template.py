"""Render a conversation by the model's chat template, once and whole, and find what is learnt in it: the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from trainables.data.defects import reason
from trainables.data.forms.known_keys import REASONING_KEYS
from trainables.data.samples import Sample
from trainables.data.template.answer_spans import STAND_IN, Conversation, Turn
from trainables.data.template.message_marks import MarkedConversation, Message
from trainables.data.template.rendering import Rendering, Tokenizer, unfit
from trainables.errors import UserError

# A template's own refusals, and Python's inside it.
TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError, AttributeError)
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
OPENED_THOUGHT = re.compile(r"<[^<>/\s]*think[^<>\s]*>\s*$")


def use_chat_template(tokenizer: Tokenizer, path: str, copy: Path) -> None:
    """Gives a tokenizer the chat template of a file, and keeps a copy of it.

    Raises:
        UserError: The file cannot be read, or holds no Jinja template.
    """
    where = "data.chat_template"
    try:
        text = _template_in(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(where, "must be a readable file in UTF-8", f"{path}: {reason(error)}", "correct it") from error
    tokenizer.chat_template = text
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    except TemplateSyntaxError as error:
        got = f"{path} line {error.lineno}: {error}"
        raise UserError(where, "must be a Jinja template", got, "correct it") from error
    except TEMPLATE_ERRORS:
        pass  # it may need other messages than these, which rendering the samples tells
    copy.write_text(text, encoding="utf-8")


def _template_in(text: str) -> str:
    """The template in a file's text: the text itself, or what JSON such as `tokenizer_config.json` holds."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    template = value.get("chat_template") if isinstance(value, dict) else None
    if not isinstance(template, str):
        raise ValueError("JSON without one text under chat_template")
    return template


class ChatTemplate:
    """A tokenizer's chat template with its arguments.

    A label is an assistant's turn: from the first text of the message (its reasoning, its content, or its first tool
    call) up to and including the token that ends the turn. What the template writes before that text, such as a role's
    header or an empty thought, is no label: the model is given it.

    Args:
        tokenizer: The model's.
        args: Variables for the template, such as `enable_thinking`.
        learns_template_text: Begin labels where the generation prompt ends, so that such text is learnt too.

    Raises:
        UserError: The tokenizer has no chat template, or the template does not read an argument.
    """

    def __init__(self, tokenizer: Tokenizer, args: Mapping[str, Any], learns_template_text: bool) -> None:
        if not tokenizer.chat_template:
            remedy = 'set a wrapper, such as "<human>: {prompt}\\n<bot>: {response}", or data.chat_template'
            raise UserError("data.template", "must be set for a model without a chat template", "null", remedy)
        self._tokenizer, self._args, self._learns_template_text = tokenizer, dict(args), learns_template_text
        written = str(tokenizer.chat_template)
        if unread := [name for name in args if not re.search(rf"\b{re.escape(name)}\b", written)]:
            rule = "must be variables that the chat template reads"
            raise UserError("data.template_args", rule, ", ".join(unread), "take them out or correct their names")
        # Beginning-of-text tokens begin turns; every other added token behind an answer can end it.
        added = {token.content for token in tokenizer.added_tokens_decoder.values()} | {tokenizer.eos_token}
        ends = sorted(added - {None, tokenizer.bos_token}, key=len, reverse=True)
        self.end_tokens = re.compile("|".join(map(re.escape, ends)) or r"(?!)")
        self.special_tokens = frozenset(tokenizer.all_special_tokens)
        self.eos_token: str | None = tokenizer.eos_token
        self._in_parts = self._takes_only_parts()
        self._marks_answers = bool(GENERATION.search(written)) and tokenizer.is_fast
        self._given_text_is_known = False
        read = (key for key in REASONING_KEYS if re.search(rf"[.'\"]{key}\b", written))
        self._reasoning_key = next(read, REASONING_KEYS[0])  # the name under which the template knows thoughts
        self.opened_thought = self._opened_thought()

    def render(self, sample: Sample) -> Rendering:
        """Renders a conversation.

        Raises:
            UserError: The template refuses the messages, drops a part of them, or hides where an answer stands.
        """
        names = {"reasoning_content": self._reasoning_key}
        messages = [{names.get(key, key): m[key] for key in m if key != "weight"} for m in sample.messages]
        learnt = [i for i, m in enumerate(sample.messages) if m["role"] == "assistant" and m.get("weight") != 0]
        if not learnt:
            raise unfit(sample, "must have an assistant turn that is learnt", "weight 0 for all of them", "drop it")
        try:
            text = self.apply(messages, sample.tools)
        except TEMPLATE_ERRORS as error:
            raise unfit(sample, "the chat template must take its messages", error) from error
        conversation = self._located(sample, messages, text)
        notes = conversation.dropped_parts()
        spans = (conversation.turn(i, self._learns_template_text) for i in learnt)
        turns = self._within_generation_marks(messages, sample.tools, [turn for turn in spans if turn is not None])
        response, mark = conversation.answer(learnt[-1])
        opened = self.opened_thought
        if given := self._given_text(conversation, learnt[-1]):
            notes.append(("template_text", repr(given)))
        if opened and mark is None and opened not in conversation.lead(learnt[-1]):
            notes.append(("thought_opened", repr(opened)))
        notes += [("end_token_added", turn.end_token) for turn in turns if turn.end_token]
        return _assembled(text, turns, response, mark, tuple(dict.fromkeys(notes)))

    def _given_text(self, conversation: Conversation, i: int) -> str | None:
        """What the model is given before an answer beyond the generation prompt; told once."""
        if self._given_text_is_known or self._learns_template_text:
            return None
        given = conversation.given_text(i)
        self._given_text_is_known = given is not None
        return given

    def apply(self, messages: list[Message], tools: list[Message] | None, **more: Any) -> str:
        """Renders messages; raises `TEMPLATE_ERRORS`."""
        return str(self._tokenizer.apply_chat_template(tokenize=False, **self._given(messages, tools), **more))

    def _given(self, messages: list[Message], tools: list[Message] | None) -> dict[str, Any]:
        if self._in_parts:
            messages = [{**m, "content": [{"type": "text", "text": m.get("content") or ""}]} for m in messages]
        return {"conversation": messages, **({"tools": tools} if tools else {}), **self._args}

    def attempt(self, messages: list[Message], tools: list[Message] | None, **more: Any) -> str | None:
        """Renders messages that the user did not write; None where the template refuses them."""
        try:
            return self.apply(messages, tools, **more)
        except TEMPLATE_ERRORS:
            return None

    def _takes_only_parts(self) -> bool:
        """Whether the template reads contents as lists of parts and skips texts, as some of vision models do."""
        self._in_parts = False
        asked = [{"role": "user", "content": STAND_IN}]
        if STAND_IN in (self.attempt(asked, None) or STAND_IN):
            return False
        self._in_parts = True
        return STAND_IN in (self.attempt(asked, None) or "")

    def _located(self, sample: Sample, messages: list[Message], text: str) -> Conversation:
        got: object = "another text for other words"
        try:
            marked = MarkedConversation(messages, sample.tools, text)
            found = marked.locate(self.apply(marked.messages, marked.tools), text)
        except TEMPLATE_ERRORS as error:
            found, got = None, error
        if found is None:
            raise unfit(sample, "the chat template must show where each message stands", got)
        return Conversation(self, sample, messages, text, found, marked.pieces)

    def _opened_thought(self) -> str | None:
        """The tag at the end of the generation prompt that opens a thought; None for most templates."""
        asked = self.attempt([{"role": "user", "content": "?"}], None, add_generation_prompt=True)
        found = OPENED_THOUGHT.search(asked or "")
        return found[0].strip() if found else None

    def _within_generation_marks(
        self, messages: list[Message], tools: list[Message] | None, turns: list[Turn]
    ) -> list[Turn]:
        """Keeps the turns, or the parts of them, that the template's `{% generation %}` marks as the model's."""
        if not self._marks_answers:
            return turns
        out = self._tokenizer.apply_chat_template(
            **self._given(messages, tools),
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"return_offsets_mapping": True},
        )
        marked = [span for span, kept in zip(out["offset_mapping"], out["assistant_masks"], strict=True) if kept]
        kept = []
        for turn in turns:
            inside = [start for start, stop in marked if start < turn.stop and stop > turn.start]
            if inside:
                kept.append(turn._replace(start=max(turn.start, min(inside))))
        return kept or turns


def _assembled(
    text: str, turns: list[Turn], response: str, mark: str | None, notes: tuple[tuple[str, str], ...]
) -> Rendering:
    """The rendering with the end tokens that the template lacks put in."""
    parts, labels, done, added = [], [], 0, 0
    for start, stop, end_token in turns:
        parts += [text[done:stop], end_token]
        labels.append((start + added, stop + added + len(end_token)))
        done, added = stop, added + len(end_token)
    return Rendering("".join([*parts, text[done:]]), tuple(labels), False, response, mark, notes)
