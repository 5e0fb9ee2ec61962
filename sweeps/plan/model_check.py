"""What the model says to the plan: whether it can take the data, and what its adapters leave out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sweeps.config.sweep_config import SweepConfig
from sweeps.plan.datasets import Prepared
from sweeps.plan.findings import Finding
from sweeps.plan.model_facts import adapters
from trainables.errors import UserError
from trainables.models.meta_model import ModelFacts
from trainables.storage.layout import TRAIN_FILE, area_file

WHOLE = 0.99  # of the matrices' weights: routers, which are never adapted, stay below the rest
SHOWN = 4  # names of what is left out


def model_mistakes(config: SweepConfig, facts: ModelFacts, data: Prepared, cache: Path, tokens: int) -> list[UserError]:
    """Returns what of the data the model cannot take.

    Args:
        config: The sweep.
        facts: Of its model.
        data: Its data sets.
        cache: The folder of their tokens.
        tokens: Size of the tokenizer.
    """
    highest = max(_most(cache / file, "input_ids") for file in (TRAIN_FILE, *map(area_file, data.areas)))
    mistakes = []
    if highest >= facts.embeddings:
        rule = "must have an embedding for each token of the data"
        got = f"token {highest}: the tokenizer has {tokens:,} tokens, the model {facts.embeddings:,} embeddings"
        remedy = "name a model whose embeddings fit its tokenizer, or a data.template without its added tokens"
        mistakes.append(UserError("model.name", rule, got, remedy))
    if facts.positions_end:
        mistakes += _beyond_positions(config, facts, data, cache)
    return mistakes


def model_findings(
    config: SweepConfig, facts: ModelFacts, data: Prepared, cache: Path, tokens: int
) -> Iterator[Finding]:
    """Yields findings about lengths, the tokenizer and what "all-linear" leaves out; arguments as `model_mistakes`."""
    if not facts.positions_end and (beyond := _beyond_positions(config, facts, data, cache)):
        text = (
            f"longer than the {facts.positions:,} positions that the model is made for: "
            f"{'; '.join(f'{error.where} ({error.got})' for error in beyond)}; it computes on, with positions that it "
            f"has not seen: set data.max_tokens={facts.positions}, or name a model for longer texts"
        )
        yield Finding("beyond_positions", "warning", text)
    if tokens > facts.embeddings:
        text = (
            f"the tokenizer has {tokens:,} tokens, the model {facts.embeddings:,} embeddings: the data must do without "
            "the others"
        )
        yield Finding("more_tokens_than_embeddings", "info", text)
    for lora, adapter in zip(adapters(config), facts.adapters, strict=True):
        if lora.target_modules == "all-linear" and adapter.share < WHOLE:
            names = [f"{name} ({share:.1%})" for name, share in adapter.left_out.items()]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            text = (
                f"all-linear adapts {adapter.share:.0%} of the weights in the model's matrices; no adapter fits "
                f"{', '.join(names[:SHOWN])}{more}; model.method=full trains them too"
            )
            yield Finding("not_adapted", "warning", text)


def _beyond_positions(config: SweepConfig, facts: ModelFacts, data: Prepared, cache: Path) -> list[UserError]:
    if (most := facts.positions) is None:
        return []
    rule, other = f"must fit into the model's {most:,} positions", "or name a model with more"
    sets = {"data.train": data.train, **{f"heldout.areas.{name}": area for name, area in data.areas.items()}}
    found = [
        UserError(
            where,
            rule,
            f"a sample of {plan.longest_tokens:,} tokens",
            f"set data.max_tokens={most} and data.on_defect.too_long=drop, {other}",
        )
        for where, plan in sets.items()
        if plan.longest_tokens > most
    ]
    for name, area in config.heldout.areas.items() if config.heldout.answers_at else ():
        longest = _most(cache / area_file(name), "prompt_length")
        if longest + area.max_new_tokens > most >= data.areas[name].longest_tokens:
            where, got = f"heldout.areas.{name}.max_new_tokens", f"{area.max_new_tokens} behind a prompt of {longest:,}"
            found.append(UserError(where, rule, got, f"lower it to {max(1, most - longest)}, {other}"))
    return found


def _most(file: Path, column: str) -> int:
    """The highest number in a column of a file of tokens."""
    with pa.memory_map(str(file)) as source:
        reader = pa.ipc.open_file(source)
        columns = (reader.get_batch(number).column(column) for number in range(reader.num_record_batches))
        flat = (values.flatten() if pa.types.is_list(values.type) else values for values in columns)
        return max((pc.max(values).as_py() for values in flat if len(values)), default=0)
