"""Put a prompt and a response into a wrapper, or a plain text into nothing."""

from __future__ import annotations

from trainables.data.forms.known_keys import REASONING_KEYS
from trainables.data.samples import Sample
from trainables.data.template.rendering import Rendering, Tokenizer, unfit
from trainables.errors import UserError

UNSEEN = (*REASONING_KEYS, "tool_calls")


def render_wrapper(sample: Sample, tokenizer: Tokenizer, template: str) -> Rendering:
    """Renders one prompt and one response; the label is the response, the text after it and the end-of-text token.

    Args:
        sample: A sample of one turn.
        tokenizer: The model's.
        template: A text with `{prompt}` and, later, `{response}`.

    Raises:
        UserError: The sample has other turns, or the tokenizer no end-of-text token.
    """
    roles = [message["role"] for message in sample.messages]
    if roles != ["user", "assistant"]:
        raise unfit(sample, "a wrapper takes one prompt and one response", ", ".join(roles))
    if sample.messages[-1].get("weight") == 0:
        raise unfit(sample, "must have an assistant turn that is learnt", "weight 0", "drop it")
    lost = ["tools"] * bool(sample.tools) + [key for m in sample.messages for key in UNSEEN if m.get(key)]
    if lost:
        raise unfit(sample, "a wrapper shows texts only", ", ".join(lost), "use a chat template, or take them out")
    if not tokenizer.eos_token:
        remedy = "use a model whose tokenizer has one"
        raise UserError("model.name", "a wrapper needs a tokenizer with an end-of-text token", "none", remedy)
    start, _, rest = template.partition("{prompt}")
    middle, _, end = rest.partition("{response}")
    before = start + sample.prompt + middle
    # White space before the response is part of the label: tokenizers join it to the word that follows.
    prompt = before.rstrip()
    # A wrapper may write the tokens itself that are put around it otherwise.
    closing = "" if end.rstrip().endswith(tokenizer.eos_token) else tokenizer.eos_token
    text = before + sample.response + end + closing
    stop = len(text.rstrip()) if not closing else len(text)
    names_bos = bool(tokenizer.bos_token) and template.lstrip().startswith(tokenizer.bos_token)
    return Rendering(text, ((len(prompt), stop),), not names_bos, sample.response)


def render_text(sample: Sample) -> Rendering:
    """Renders a row of plain text, all of which is learnt."""
    text = sample.text or ""
    return Rendering(text, ((0, len(text)),), True, text)
