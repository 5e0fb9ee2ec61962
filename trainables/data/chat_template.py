"""A sample's text as the model sees it, and which of it is trained on: the response alone."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from trainables.data.defects import excerpt
from trainables.data.samples import Sample
from trainables.errors import UserError

Tokenizer = Any  # transformers.PreTrainedTokenizerBase, which is not imported here
StoreLedger = list[tuple[str, bool]]


def render(sample: Sample, tokenizer: Tokenizer, template: str | None) -> StoreLedger:
    """A sample's full text as (text, is label) segments, unlabelled and labelled by turns, none empty.

    With the model's chat template, each assistant turn is a label up to and including its end-of-turn token; white
    space behind that is not. With a wrapper, the response, the text behind it and the end-of-text token are the label,
    and so is white space just before `{response}`, which tokenizers join to the word that follows.
    A beginning-of-text token that the tokenizer adds by itself is not part of a wrapper's text; `tokenize` puts it in.

    Args:
        sample: The conversation.
        tokenizer: The model's.
        template: None for the tokenizer's chat template, or a wrapper with `{prompt}` and, behind it, `{response}`.

    Raises:
        UserError: The template cannot render the sample, or the tokenizer lacks a chat template or end-of-text token.
    """
    if template is None:
        return _render_chat(sample, tokenizer)
    return _render_wrapper(sample, tokenizer, template)


def _render_chat(sample: Sample, tokenizer: Tokenizer) -> StoreLedger:
    if not tokenizer.chat_template:
        remedy = 'set a wrapper, such as "<human>: {prompt}\\n<bot>: {response}"'
        raise UserError("data.template", "must be set for a model without a chat template", "null", remedy)
    segments: StoreLedger = []
    done = full = ""
    for i, message in enumerate(sample.messages):
        if message["role"] != "assistant":
            continue
        try:
            prompt = tokenizer.apply_chat_template(sample.messages[:i], tokenize=False, add_generation_prompt=True)
            full = tokenizer.apply_chat_template(sample.messages[: i + 1], tokenize=False)
        except (TemplateError, TypeError, ValueError) as error:  # a template's own refusals, and Python's inside it
            raise unfit(sample, "the chat template must take its messages", error) from error
        answer = full[len(prompt) :].rstrip()
        if not (prompt.startswith(done) and full.startswith(prompt) and answer):
            got = f"another text at messages[{i}]"
            raise unfit(sample, "the chat template must render each turn as a continuation of those before", got)
        segments += [(prompt[len(done) :], False), (answer, True)]
        done = prompt + answer
    return [segment for segment in [*segments, (full[len(done) :], False)] if segment[0]]


def _render_wrapper(sample: Sample, tokenizer: Tokenizer, template: str) -> StoreLedger:
    roles = [message["role"] for message in sample.messages]
    if roles != ["user", "assistant"]:
        raise unfit(sample, "a wrapper takes one prompt and one response", ", ".join(roles))
    if not tokenizer.eos_token:
        remedy = "use a model whose tokenizer has one"
        raise UserError("model.name", "a wrapper needs a tokenizer with an end-of-text token", "none", remedy)
    start, _, rest = template.partition("{prompt}")
    middle, _, end = rest.partition("{response}")
    before = start + sample.prompt + middle
    prompt = before.rstrip()
    return [(prompt, False), (before[len(prompt) :] + sample.response + end + tokenizer.eos_token, True)]


def unfit(sample: Sample, rule: str, got: object) -> UserError:
    """The error for a sample that the template or tokenizer cannot take."""
    remedy = "split it into samples of one response each, correct it, or choose another data.template"
    return UserError(f"{sample.where}, sample {excerpt(sample.id)}", rule, got, remedy)
