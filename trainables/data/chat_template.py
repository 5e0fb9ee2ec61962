"""Render a sample as the model sees it, and mark the parts that are trained on: the responses."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from trainables.data.defects import excerpt
from trainables.data.samples import Sample
from trainables.errors import UserError

Tokenizer = Any  # transformers.PreTrainedTokenizerBase, which is not imported here
Segments = list[tuple[str, bool]]


def render(sample: Sample, tokenizer: Tokenizer, template: str | None) -> Segments:
    """Renders a sample as non-empty (text, is label) segments, alternately unlabeled and labeled.

    With the model's chat template, a label is an assistant turn up to and including its end-of-turn token, without the
    white space after it. With a wrapper, the label is the response, the text after it and the end-of-text token.

    Args:
        sample: The conversation.
        tokenizer: The model's.
        template: None for the tokenizer's chat template, or a wrapper with `{prompt}` and, later, `{response}`.

    Raises:
        UserError: The template cannot render the sample, or the tokenizer lacks a chat template or end-of-text token.
    """
    if template is None:
        return _render_chat(sample, tokenizer)
    return _render_wrapper(sample, tokenizer, template)


def _render_chat(sample: Sample, tokenizer: Tokenizer) -> Segments:
    if not tokenizer.chat_template:
        remedy = 'set a wrapper, such as "<human>: {prompt}\\n<bot>: {response}"'
        raise UserError("data.template", "must be set for a model without a chat template", "null", remedy)
    segments: Segments = []
    done = full = ""
    for i, message in enumerate(sample.messages):
        if message["role"] != "assistant":
            continue
        try:
            prompt = tokenizer.apply_chat_template(sample.messages[:i], tokenize=False, add_generation_prompt=True)
            full = tokenizer.apply_chat_template(sample.messages[: i + 1], tokenize=False)
        except (TemplateError, TypeError, ValueError) as error:  # a template's own refusals, and Python's inside it
            raise unfit(sample, "the chat template must take its messages", error) from error
        # White space after the end-of-turn token belongs to the next turn's header: generation has stopped before it.
        answer = full[len(prompt) :].rstrip()
        # Some templates rewrite earlier turns, such as by dropping reasoning: then no single text has all labels.
        if not (prompt.startswith(done) and full.startswith(prompt) and answer):
            got = f"another text at messages[{i}]"
            raise unfit(sample, "the chat template must render each turn as a continuation of those before", got)
        segments += [(prompt[len(done) :], False), (answer, True)]
        done = prompt + answer
    return [segment for segment in [*segments, (full[len(done) :], False)] if segment[0]]


def _render_wrapper(sample: Sample, tokenizer: Tokenizer, template: str) -> Segments:
    roles = [message["role"] for message in sample.messages]
    if roles != ["user", "assistant"]:
        raise unfit(sample, "a wrapper takes one prompt and one response", ", ".join(roles))
    if not tokenizer.eos_token:
        remedy = "use a model whose tokenizer has one"
        raise UserError("model.name", "a wrapper needs a tokenizer with an end-of-text token", "none", remedy)
    start, _, rest = template.partition("{prompt}")
    middle, _, end = rest.partition("{response}")
    before = start + sample.prompt + middle
    # White space before the response is part of the label: tokenizers join it to the word that follows.
    prompt = before.rstrip()
    return [(prompt, False), (before[len(prompt) :] + sample.response + end + tokenizer.eos_token, True)]


def unfit(sample: Sample, rule: str, got: object) -> UserError:
    """The error for a sample that the template or tokenizer cannot process."""
    remedy = "split it into samples of one response each, correct it, or choose another data.template"
    return UserError(f"{sample.where}, sample {excerpt(sample.id)}", rule, got, remedy)
