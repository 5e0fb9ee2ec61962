"""What the model says to the plan: whether it can take the data, and what its adapters leave out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sweeps.config.sweep_config import SweepConfig
from sweeps.plan.datasets import Prepared
from sweeps.plan.findings import Finding
from sweeps.plan.model_facts import adapters
from trainables.errors import UserError
from trainables.models.meta_model import ModelFacts
from trainables.models.pretrained import bitsandbytes_is_missing, cannot_recompute, nothing_to_quantize
from trainables.storage.layout import TRAIN_FILE, area_file

WHOLE = 0.99  # of the matrices' weights: routers, which are never adapted, stay below the rest
SHOWN = 4  # names of what is left out


@dataclass(frozen=True)
class ModelCheck:
    """Compares a model with a sweep's config and data."""

    config: SweepConfig
    facts: ModelFacts
    data: Prepared
    cache: Path  # folder of the data's tokens
    tokens: int  # size of the tokenizer

    def mistakes(self) -> list[UserError]:
        """Returns what of the data and the config the model cannot take."""
        facts, mistakes = self.facts, []
        if self.config.training.gradient_checkpointing and not facts.recomputes:
            mistakes.append(cannot_recompute(facts.kind))
        if self.config.model.quantize:
            nothing = None if facts.quantizable else nothing_to_quantize(facts.kind)
            mistakes += filter(None, [bitsandbytes_is_missing("model.quantize"), nothing])
        if self.config.training.optimizer == "adamw_8bit":
            mistakes += filter(None, [bitsandbytes_is_missing("training.optimizer")])
        if self._highest_token >= facts.embeddings:
            rule = "must have an embedding for each token of the data"
            remedy = "name a model whose embeddings fit its tokenizer, or a data.template without its added tokens"
            mistakes.append(UserError("model.name", rule, f"token {self._highest_token}: {self._sizes}", remedy))
        return mistakes + (self._beyond_positions() if facts.positions_end else [])

    def findings(self) -> Iterator[Finding]:
        """Yields findings about lengths, the tokenizer and what "all-linear" leaves out."""
        facts = self.facts
        if not facts.positions_end and (beyond := self._beyond_positions()):
            text = (
                f"longer than the {facts.positions:,} positions that the model is made for: "
                f"{'; '.join(f'{error.where} ({error.got})' for error in beyond)}; it computes on, with positions that "
                f"it has not seen: set data.max_tokens={facts.positions}, or name a model for longer texts"
            )
            yield Finding("beyond_positions", "warning", text)
        if self.tokens > facts.embeddings > self._highest_token:
            yield Finding("more_tokens_than_embeddings", "info", f"{self._sizes}; the data have none of the others")
        for lora, adapter in zip(adapters(self.config), facts.adapters, strict=True):
            if lora.target_modules == "all-linear" and adapter.share < WHOLE:
                text = (
                    f"all-linear adapts {adapter.share:.0%} of the weights in the model's matrices; no adapter fits "
                    f"{_shares(adapter.left_out)}; model.method=full trains them too"
                )
                yield Finding("not_adapted", "warning", text)
        if self.config.model.quantize and (whole := sum(facts.kept_whole.values())) > 1.0 - WHOLE:
            text = (
                f"model.quantize={self.config.model.quantize} takes {1.0 - whole:.0%} of the weights in the model's "
                f"matrices; these stay in training.precision: {_shares(facts.kept_whole)}"
            )
            yield Finding("not_quantized", "warning", text)

    @cached_property
    def _highest_token(self) -> int:
        return max(_most(self.cache / file, "input_ids") for file in (TRAIN_FILE, *map(area_file, self.data.areas)))

    @property
    def _sizes(self) -> str:
        return f"the tokenizer has {self.tokens:,} tokens, the model {self.facts.embeddings:,} embeddings"

    def _beyond_positions(self) -> list[UserError]:
        if (most := self.facts.positions) is None:
            return []
        rule, other = f"must fit into the model's {most:,} positions", "or name a model with more"
        areas, held_out = self.data.areas, self.config.heldout
        sets = {"data.train": self.data.train, **{f"heldout.areas.{name}": area for name, area in areas.items()}}
        drop = f"set data.max_tokens={most} and data.on_defect.too_long=drop, {other}"
        found = [
            UserError(where, rule, f"a sample of {plan.longest_tokens:,} tokens", drop)
            for where, plan in sets.items()
            if plan.longest_tokens > most
        ]
        for name, area in held_out.areas.items() if held_out.answers_at else ():
            longest = _most(self.cache / area_file(name), "prompt_length")
            if longest + area.max_new_tokens > most >= areas[name].longest_tokens:
                where, got = (
                    f"heldout.areas.{name}.max_new_tokens",
                    f"{area.max_new_tokens} behind a prompt of {longest:,}",
                )
                found.append(UserError(where, rule, got, f"lower it to {max(1, most - longest)}, {other}"))
        return found


def _shares(left_out: dict[str, float]) -> str:
    names = [f"{name} ({share:.1%})" for name, share in left_out.items()]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _most(file: Path, column: str) -> int:
    """The highest number in a column of a file of tokens."""
    with pa.memory_map(str(file)) as source:
        reader = pa.ipc.open_file(source)
        columns = (reader.get_batch(number).column(column) for number in range(reader.num_record_batches))
        flat = (values.flatten() if pa.types.is_list(values.type) else values for values in columns)
        return max((pc.max(values).as_py() for values in flat if len(values)), default=0)
