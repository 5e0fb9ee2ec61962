"""Talk to a sweep's best checkpoint beside its base model: `python -m analysis.chat DIR`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from analysis.cli import Parser
from analysis.export.checkpoint_choice import Chosen, base_model, checkpoint_folder, choose
from analysis.output.formats import trial_name
from analysis.rank.leaderboard import leaderboard
from analysis.records.locate import opened
from analysis.records.sweep import Sweep, read_sweep
from trainables.storage.layout import CACHE_FOLDER, CHAT_TEMPLATE_FILE

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
        from trainables.config.data_sections import DataConfig
        from trainables.config.hyperparameters import with_params
        from trainables.config.sections import ModelConfig, TrainingConfig
        from trainables.models.base_model import load_base

        self.folder, self.max_new_tokens = checkpoint_folder(sweep, chosen), max_new_tokens
        found = base_model(sweep)
        model = ModelConfig.model_validate(sweep.config.get("model") or {})
        training = TrainingConfig.model_validate(sweep.config.get("training") or {})
        self.data = DataConfig.model_validate(sweep.config.get("data") or {})
        _, self.lora = with_params(training, model.lora, dict(chosen.row["params"]))
        device = "cuda" if torch_has_cuda() else "cpu"
        self.base = load_base(found.folder, model, training.precision, device)
        template = sweep.folder / CACHE_FOLDER / CHAT_TEMPLATE_FILE
        if template.is_file():
            self.base.tokenizer.chat_template = template.read_text(encoding="utf-8")

    def answers(self, question: str) -> tuple[str, str]:
        """The base model's greedy answer, and the checkpoint's.

        Raises:
            UserError: The template can't render the question.
        """
        from trainables.checkpoints import checkpoint
        from trainables.data.dataset import TokenizedSet
        from trainables.data.samples import Sample
        from trainables.data.tokenization import tokenize

        # Rendered as a sample of the sweep, with an answer that is not shown to the models.
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "?"}]
        with TemporaryDirectory() as place:
            path, data = Path(place) / "question.arrow", self.data
            sample = Sample("question", turns, {}, 1)
            arguments = (data.template, sys.maxsize, path, data.template_args, data.train_on_template_text)
            tokenize([sample], self.base.tokenizer, *arguments)
            asked = TokenizedSet(path)
            base = self._answer(self.base.untouched(), asked)
            model = self.base.prepare(self.lora, seed=0)
            checkpoint.load(model, self.folder)
            return base, self._answer(model, asked)

    def _answer(self, model: Any, asked: TokenizedSet) -> str:
        from trainables.evaluation.generation import greedy_answers

        ends = asked.label_ends
        return greedy_answers(model, self.base.tokenizer, [asked.prompt_ids(0)], self.max_new_tokens, label_ends=ends)[
            0
        ]


def torch_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


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
