"""Which template the base model already knows best: `python -m sweeps.templates CONFIG`.

The same samples are rendered under two to four templates and given to the untouched base model. Compared is the loss of
the responses' own text: losses a token of different templates can't be compared, for their end tokens differ.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.cli import Parser
from analysis.stats.bootstrap import Bootstrap, make_design, percentile_interval
from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.plan.plan import MODELS_CACHE
from trainables.data.samples import Sample, parse_sample
from trainables.data.sources import read_raw
from trainables.data.template.chat_template import use_chat_template
from trainables.errors import UserError
from trainables.storage.layout import CHAT_TEMPLATE_FILE

if TYPE_CHECKING:
    from trainables.data.dataset import TokenizedSet
    from trainables.models.base_model import Base

EXAMPLE = r"""example:
  python -m sweeps.templates my_sweep.yaml            # the chat template and three wrappers in common use
  python -m sweeps.templates my_sweep.yaml --template chat --template "Text: {prompt}\nLabel: {response}"
  python -m sweeps.templates my_sweep.yaml --template chat --template other.jinja

exit codes: 0 done, 2 wrong arguments or files"""
CHAT = "chat"
COMMON = (
    "{prompt}\n{response}",
    "Question: {prompt}\nAnswer: {response}",
    "### Instruction:\n{prompt}\n\n### Response:\n{response}",
)
FEWEST, MOST = 2, 4
LEVEL = 0.95


class Losses(NamedTuple):
    """Each sample's loss under a template, in nats/character of its responses, and the context of each, by id."""

    nats: dict[str, float]
    groups: dict[str, str]


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m sweeps.templates", "Which template the base model already knows best.", EXAMPLE)
    parser.add_argument("config", metavar="CONFIG", help="the sweep's config: model and training set are read")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    parser.add_argument(
        "--template",
        action="append",
        default=[],
        metavar="TEXT",
        help='"chat", a file of a chat template (.jinja), or a wrapper with {prompt} and {response}; two to four times',
    )
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="training samples, taken evenly (64)")
    return parser.run(_compare, arguments)


def _compare(given: Namespace) -> None:
    from trainables.models.base_model import load_base
    from trainables.models.pretrained import resolve_model

    config = load_config(given.config, given.overrides)
    texts = [text.replace("\\n", "\n") for text in given.template]
    if texts and not FEWEST <= len(set(texts)) <= MOST:
        got = f"{len(set(texts))} different ones"
        raise UserError("--template", f"must be given {FEWEST} to {MOST} times", got, "name the templates to compare")
    for text in texts:
        if text != CHAT and not text.endswith(".jinja") and text.partition("{response}")[2].strip():
            raise UserError(
                "--template", "must end with {response}", text, "leave out what follows: it would be scored"
            )
    samples = some_samples(config, given.samples)
    base = load_base(resolve_model(config.model, MODELS_CACHE), config.model, config.training.precision, _device())
    has_chat = bool(config.data.chat_template or base.tokenizer.chat_template)
    found = {text: losses(base, config, samples, text) for text in texts or [*[CHAT] * has_chat, *COMMON]}
    common = [s.id for s in samples if all(s.id in one.nats for one in found.values())]
    if len(common) < FEWEST:
        raise UserError("data.max_tokens", "must leave samples under all templates", f"{len(common)}", "raise it")
    for line in report(found, common):
        print(line)


def report(found: dict[str, Losses], common: Sequence[str]) -> Iterator[str]:
    """Lines that rank the templates; `common` are the samples that fit under all of them."""
    names = list(found)
    nats = np.array([[found[name].nats[one] for name in names] for one in common])  # (samples, templates)
    order = np.argsort(nats.mean(axis=0), kind="stable").tolist()
    groups = [found[names[0]].groups[one] for one in common]
    design = make_design(["all"] * len(common), groups, {"all": 1.0})
    means = Bootstrap(design).objective(nats)  # (resamples, templates)
    level = 1 - (1 - LEVEL) / (len(names) - 1)  # Bonferroni: all differences to the best hold together
    yield f"untouched base model, {len(common)} samples: loss of the responses' text in nats/character"
    yield "   loss  Δ vs best (95 % CI)    template"
    tied = []
    for place, at in enumerate(order):
        low, high = percentile_interval(means[:, at] - means[:, order[0]], level)
        difference = nats[:, at].mean() - nats[:, order[0]].mean()
        shown = f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]" if place else ""
        yield f"{nats[:, at].mean():7.3f}  {shown:24s} {names[at]!r}"
        tied += [names[at]] if place and not low > 0 else []
    best = names[order[0]]
    if tied:
        yield f"No significant difference between {best!r} and {', '.join(map(repr, tied))}: take either."
    else:
        yield f"The model knows {best!r} best."


def losses(base: Base, config: SweepConfig, samples: list[Sample], template: str) -> Losses:
    """Each sample's loss under a template; samples that are longer than `data.max_tokens` with it are left out.

    Args:
        base: The untouched model.
        config: The sweep's; its section `data` says how samples are rendered.
        samples: The samples.
        template: As for `--template`.

    Raises:
        UserError: The template can't render a sample.
    """
    from trainables.data.dataset import TokenizedSet
    from trainables.data.tokenization import tokenize

    wrapper = None if template == CHAT or template.endswith(".jinja") else template
    with TemporaryDirectory() as place, _chat_template(base, config, template, Path(place)):
        path = Path(place) / "samples.arrow"
        tokenize(samples, base.tokenizer, wrapper, config.data.max_tokens, path, config.data.template_args)
        items = TokenizedSet(path)
        sums = _text_losses(base, items, config.heldout.batch_tokens)
        characters = {sample.id: _learnt_characters(sample) for sample in samples}
        nats = {name: total / characters[name] for name, total in zip(items.ids, sums, strict=True)}
        return Losses(nats, {name: items.group(at) for at, name in enumerate(items.ids)})


def some_samples(config: SweepConfig, most: int) -> list[Sample]:
    """At most so many samples of the training set, taken evenly; lines with a defect are left to the plan.

    Raises:
        UserError: There are none, or they are plain texts, which have no template.
    """
    data, fields = config.data, config.data.fields
    read = (parse_sample(data.train, raw, fields, data.format) for raw in read_raw(data.train, fields, data.split))
    found = [sample for sample in read if isinstance(sample, Sample) and sample.text is None]
    if len(found) < FEWEST:
        raise UserError("data.train", "must hold prompts with responses", f"{len(found)} of them", "plan it first")
    return [found[at] for at in np.unique(np.linspace(0, len(found) - 1, most).astype(int))]


def _text_losses(base: Base, items: TokenizedSet, batch_tokens: int) -> list[float]:
    """Each item's summed loss in nats, without tokens that end a turn and white space, which templates write too."""
    import torch

    from trainables.evaluation.heldout import length_batches
    from trainables.models.token_losses import token_losses

    model, tokenizer = base.untouched(), base.tokenizer
    labels = set(np.concatenate([items.input_ids(at)[items.label_mask(at)] for at in range(len(items))]).tolist())
    spaces = {label for label in labels if not tokenizer.decode([label]).strip()}
    left_out = torch.tensor(sorted(spaces | set(tokenizer.added_tokens_decoder)), device=base.device)
    sums = torch.zeros(len(items), dtype=torch.float64)
    with torch.no_grad():
        for rows in length_batches(np.argsort(items.lengths, kind="stable"), items.lengths, batch_tokens):
            batch = items.batch(rows).to(base.device)
            kept = token_losses(model, batch).double() * ~torch.isin(batch.labels, left_out)
            sums.index_add_(0, torch.from_numpy(rows)[batch.label_item.cpu()], kept.cpu())
    return sums.tolist()


def _learnt_characters(sample: Sample) -> int:
    learnt = [turn for turn in sample.messages if turn["role"] == "assistant" and turn.get("weight") != 0]
    return max(1, sum(len(str(turn["content"] or "")) for turn in learnt))


@contextmanager
def _chat_template(base: Base, config: SweepConfig, template: str, scratch: Path) -> Iterator[None]:
    """While entered, the tokenizer has the chat template that a template names: a file, or that of the config."""
    before, file = base.tokenizer.chat_template, template if template.endswith(".jinja") else config.data.chat_template
    try:
        if file:
            use_chat_template(base.tokenizer, file, scratch / CHAT_TEMPLATE_FILE)
        yield
    finally:
        base.tokenizer.chat_template = before


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    sys.exit(main())
