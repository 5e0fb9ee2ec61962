"""Talk to a sweep's best checkpoint beside its base model: `python -m analysis.chat DIR`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from analysis.cli import Parser
from analysis.export.checkpoint_choice import Chosen, choose
from analysis.export.sweep_models import SweepModels
from analysis.output.formats import trial_name
from analysis.rank.leaderboard import leaderboard
from analysis.records.locate import opened
from analysis.records.sweep import Sweep, read_sweep

if TYPE_CHECKING:
    from trainables.data.dataset import TokenizedSet

EXAMPLE = """example:
  python -m analysis.chat outputs/demo                 # the winner; an empty line or Ctrl-D ends it
  python -m analysis.chat outputs/demo --trial t0003
  echo "What is the total?" | python -m analysis.chat outputs/demo

exit codes: 0 done, 2 wrong arguments or files, 3 no complete trial with held-out scores"""


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.chat", "Answers of the best checkpoint beside the base model's.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    parser.add_argument("--trial", metavar="ID", help="the trial; default: the leaderboard's winner")
    parser.add_argument("--step", metavar="N", type=int, help="the checkpoint; default: the trial's best")
    parser.add_argument("--max-new-tokens", metavar="N", type=int, default=128, help="longest answer (128)")
    return parser.run(_chat, arguments)


def _chat(given: Namespace) -> None:
    with opened(given.folder) as folder:
        sweep, board = read_sweep(folder), leaderboard(folder)
        chosen = choose(board, given.trial, given.step, sweep.trials)
        pair = Pair(sweep, chosen, given.max_new_tokens)
        for question in _questions():
            base, trained = pair.answers(question)
            print(f"base model: {base}\n{trial_name(board, chosen.trial_id)}: {trained}", flush=True)


class Pair:
    """The base model and a checkpoint, which answer the same prompts as they did in the sweep.

    Args:
        sweep: The sweep.
        chosen: The checkpoint.
        max_new_tokens: Longest answer.
    """

    def __init__(self, sweep: Sweep, chosen: Chosen, max_new_tokens: int) -> None:
        self.models, self.chosen, self.max_new_tokens = SweepModels(sweep), chosen, max_new_tokens
        self.model: Any = self.models.trained(chosen)

    def answers(self, question: str) -> tuple[str, str]:
        """The base model's greedy answer, and the checkpoint's.

        Raises:
            UserError: The template can't render the question.
        """
        from trainables.data.dataset import TokenizedSet
        from trainables.data.samples import Sample
        from trainables.data.tokenization import tokenize

        # Rendered as a sample of the sweep, with an answer that is not shown to the models.
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "?"}]
        with TemporaryDirectory() as place:
            path, data = Path(place) / "question.arrow", self.models.data
            sample = Sample("question", turns, {}, 1)
            arguments = (data.template, sys.maxsize, path, data.template_args, data.train_on_template_text)
            tokenize([sample], self.models.base.tokenizer, *arguments)
            asked = TokenizedSet(path)
            with self._untrained() as model:
                base = self._answer(model, asked)
            return base, self._answer(self.model, asked)

    @property
    def _adapted(self) -> bool:
        return self.models.base.method == "lora"

    @contextmanager
    def _untrained(self) -> Iterator[Any]:
        """Yields the base model; afterwards the trained one is as it was."""
        if self._adapted:
            with self.model.disable_adapter():
                yield self.model
            return
        # A full fine-tune replaces the base model's weights.
        yield self.models.base.untouched()
        self.model = self.models.trained(self.chosen)

    def _answer(self, model: Any, asked: TokenizedSet) -> str:
        from trainables.evaluation.generation import greedy_answers

        ends = asked.label_ends
        prompts = [asked.prompt_ids(0)]
        answer = greedy_answers(model, self.models.base.tokenizer, prompts, self.max_new_tokens, label_ends=ends)[0]
        return f"{answer.text} … (cut at {self.max_new_tokens} tokens)" if answer.cut else answer.text


def _questions() -> Iterator[str]:
    shown = "you: " if sys.stdin.isatty() else ""
    while True:
        try:
            question = input(shown).strip()
        except EOFError:
            return
        if not question and shown:
            return
        if question:
            yield question


if __name__ == "__main__":
    sys.exit(main())
