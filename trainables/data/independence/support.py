"""Whether answers follow from their prompts (a transformation of them) or ask for knowledge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainables.data.defects import excerpt
from trainables.data.independence.coverage import content_words
from trainables.data.independence.texts import SampleText

# Ours. On sets that ask for knowledge (LLaMA-Factory's Alpaca demo without inputs, its identity set) 87% and 97% of the
# answers have fewer than a fifth of their words in the prompt; on reading tasks (contracts, receipts, intents) none,
# on tables with arithmetic 31% and 42%, on calls of tools 30%, on Alpaca's rows with inputs 38%.
SUPPORTED_SHARE = 0.2
KNOWLEDGE_SHARE = 0.6
EXAMPLES = 3
# Scripts without spaces between words: there a pair of characters is the nearest thing to a word.
UNSPACED_RUN = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


@dataclass(frozen=True)
class Support:
    """How far the answers of a data set follow from their prompts.

    Attributes:
        judged: Answers with content words or figures.
        knowledge: Those of which the prompt has fewer than `SUPPORTED_SHARE` of these.
        mean: Mean share of an answer's content words and figures that its prompt has, 0 to 1.
        examples: Ends of prompts and starts of answers, of some that ask for knowledge.
    """

    judged: int
    knowledge: int
    mean: float
    examples: list[str]

    @property
    def share(self) -> float:
        return self.knowledge / self.judged if self.judged else 0.0


def answer_support(texts: Sequence[SampleText]) -> Support:
    """Measures the support of all answers by their prompts; plain texts answer nothing and are passed over."""
    shares: list[float] = []
    examples: list[str] = []
    for text in texts:
        answer = _content(text.response)
        if not answer:
            continue
        shares.append(len(answer & _content(f"{text.context}\n{text.question}")) / len(answer))
        if shares[-1] < SUPPORTED_SHARE and len(examples) < EXAMPLES:
            examples.append(f"{text.id}: {excerpt(text.question or text.context)} → {excerpt(text.response)}")
    knowledge = sum(share < SUPPORTED_SHARE for share in shares)
    return Support(len(shares), knowledge, sum(shares) / len(shares) if shares else 0.0, examples)


def _content(text: str) -> set[object]:
    runs = UNSPACED_RUN.findall(text)
    pairs = {run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1))}
    return {*content_words(UNSPACED_RUN.sub(" ", text) if runs else text), *pairs}
