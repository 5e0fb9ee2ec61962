"""What rendering a sample gives, and the errors and notes that it leads to."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trainables.data.defects import excerpt
from trainables.data.samples import Sample
from trainables.errors import UserError

Tokenizer = Any  # transformers.PreTrainedTokenizerBase, which is not imported here
Span = tuple[int, int]

# What a template does to many samples and the user should know once; the values are the plan's words.
NOTES = {
    "end_token_added": "the template ends an answer with no end token: {what} was put behind it",
    "reasoning_left_out": "the template leaves the reasoning out of earlier turns ({what})",
    "template_text": "the template writes {what} before an answer, which its generation prompt lacks: the model is "
    "given it, not taught it. Serve it so (enable_thinking: false where the template reads it), or set "
    "data.train_on_template_text",
    "thought_opened": "the generation prompt ends in {what}, but the sample's answer begins without a thought: set "
    "data.template_args where the template reads a switch such as enable_thinking, or give reasoning",
    "special_token_in_text": "a text of the data holds {what}, which the tokenizer reads as a token of the template: "
    "take it out where it is left from another rendering",
    "name_left_out": "the template shows no {what} of messages",
}
# Such tokens belong into the texts of some data: thoughts and calls that are written out.
MEANT_IN_TEXTS = re.compile("think|reason|tool|call|func", re.IGNORECASE)


@dataclass(frozen=True)
class Rendering:
    """A sample's text.

    Attributes:
        text: The whole text, template included.
        labels: Spans of characters that are learnt, (start, stop), ascending and apart.
        adds_bos: Whether the tokenizer's own beginning-of-text token comes before the text.
        response: The text that answers are compared with.
        answer_mark: Text that stands between the reasoning and the answer; None where there is no reasoning.
        notes: (name in `NOTES`, what it is about).
    """

    text: str
    labels: tuple[Span, ...]
    adds_bos: bool = False
    response: str = ""
    answer_mark: str | None = None
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def segments(self) -> list[tuple[str, bool]]:
        """Non-empty (text, is label) parts of the text, in order."""
        ends = [0, *(end for span in self.labels for end in span), len(self.text)]
        parts = [(self.text[a:b], i % 2 == 1) for i, (a, b) in enumerate(itertools.pairwise(ends))]
        return [part for part in parts if part[0]]


def template_tokens(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Finds the special tokens that belong to templates, not to the texts of data."""
    tokens = [token for token in tokenizer.all_special_tokens if not MEANT_IN_TEXTS.search(token)]
    return re.compile("|".join(map(re.escape, tokens)) or r"(?!)")


def text_notes(sample: Sample, rendered: str, tokens: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yields notes on texts that hold tokens of a template, and on speakers' names that are not rendered."""
    texts = [sample.text, *(message.get("content") for message in sample.messages)]
    found = {token for text in texts for token in tokens.findall(text or "")}
    yield from (("special_token_in_text", excerpt(token)) for token in sorted(found))
    # What a tool is called stands in the call; few templates repeat it.
    names = [message.get("name") for message in sample.messages if message["role"] != "tool"]
    if any(isinstance(name, str) and name not in rendered for name in names):
        yield "name_left_out", "name"


def unfit(sample: Sample, rule: str, got: object, remedy: str | None = None) -> UserError:
    """The error for a sample that the template or tokenizer cannot process.

    Args:
        sample: The sample, for its place.
        rule: What must hold.
        got: What was found.
        remedy: What to do; None for another template.
    """
    remedy = remedy or "correct it, or give another template in data.chat_template or data.template"
    return UserError(f"{sample.where}, sample {excerpt(sample.id)}", rule, got, remedy)
