"""Writes a config after a look at the data: `python -m sweeps.init TRAIN --heldout FILE… --to FILE`."""

from __future__ import annotations

import re
import shlex
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from analysis.cli import Parser
from sweeps.config.sweep_config import load_config
from sweeps.plan.lr_bounds import BILLION, Method, recommended
from trainables.config.data_sections import FieldNames
from trainables.data.samples import Sample, parse_sample
from trainables.data.sources import read_raw
from trainables.errors import UserError

EXAMPLE = """example:
  python -m sweeps.init train.jsonl --heldout questions.jsonl invoices.jsonl --model Qwen/Qwen3-8B --to my_sweep.yaml

exit codes: 0 done, 2 wrong arguments or files"""
CHARACTERS_A_TOKEN = 3  # ours: fewer than in English prose, so that no sample is left out for it
TOKEN_LIMITS = (256, 512, 1024, 2048, 4096, 8192)
FEW_SAMPLES = 2000  # ours: with so few a batch of 8 leaves enough steps for a schedule


@dataclass
class Look:
    """What a data file holds: the number of its samples, of each form, of faulty lines, and its longest text."""

    samples: int = 0
    faulty: int = 0
    longest_characters: int = 0
    forms: Counter[str] = field(default_factory=Counter)


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m sweeps.init", "Writes a config after a look at a data file.", EXAMPLE)
    parser.add_argument("train", metavar="TRAIN", help="the training set: a file or a Hugging Face id")
    parser.add_argument(
        "--heldout", nargs="+", default=[], metavar="FILE", help="real held-out sets, not cut from the training set"
    )
    parser.add_argument("--model", default="Qwen/Qwen3-8B", help="the base model (Qwen/Qwen3-8B)")
    parser.add_argument("--full", action="store_true", help="train all weights; default: LoRA")
    parser.add_argument("--to", metavar="FILE", required=True, help="the config to write; must not exist yet")
    return parser.run(_init, arguments)


def _init(given: Namespace) -> None:
    if not given.heldout:
        remedy = "give at least one file of other documents or authors than the training set's"
        raise UserError("--heldout", "must name held-out samples: they choose the winner", "none", remedy)
    looks = {path: look(path) for path in (given.train, *given.heldout)}
    text = config_text(given.train, given.heldout, given.model, "full" if given.full else "lora", looks)
    to = Path(given.to)
    try:
        with to.open("x", encoding="utf-8") as file:  # never over a config that the user may have edited
            file.write(text)
    except FileExistsError:
        raise UserError(f"--to {to}", "must not exist yet", "a file", "name another") from None
    load_config(to)
    for path, found in looks.items():
        forms = ", ".join(f"{form} {count:,}" for form, count in found.forms.most_common())
        faulty = f"; {found.faulty:,} lines that can't be read" if found.faulty else ""
        print(f"{path}: {found.samples:,} samples ({forms}){faulty}")
    print(f"written: {to}. Say in it what the model should learn, then check it:")
    print(f"python -m sweeps.run {shlex.quote(str(to))} --plan")


def look(path: str) -> Look:
    """Reads a data file to its end.

    Raises:
        UserError: It can't be read, or holds no sample.
    """
    found, fields = Look(), FieldNames()
    for raw in read_raw(path, fields, "train"):
        sample = parse_sample(path, raw, fields)
        if not isinstance(sample, Sample):
            found.faulty += 1
            continue
        found.samples += 1
        found.forms[sample.form] += 1
        found.longest_characters = max(found.longest_characters, len(sample.prompt) + len(sample.response))
    if not found.samples:
        got = f"{found.faulty} lines, none of which is a sample"
        raise UserError(
            path, "must hold samples", got, 'see docs/howto/own-data.md; {"prompt", "response"} is simplest'
        )
    return found


def config_text(train: str, heldout: list[str], model: str, method: Method, looks: dict[str, Look]) -> str:
    """The config as YAML with comments.

    Args:
        train: The training set as it was given.
        heldout: The held-out files.
        model: The base model.
        method: How it is fine-tuned.
        looks: What each file holds.
    """
    bounds = recommended(method, parameters_in(model))
    tokens = max(found.longest_characters for found in looks.values()) // CHARACTERS_A_TOKEN
    limit = next((size for size in TOKEN_LIMITS if tokens <= size), TOKEN_LIMITS[-1])
    areas = {_area_name(path, heldout): {"path": path, "kind": "in_domain" if k == 0 else "adjacent"}
             for k, path in enumerate(heldout)}  # fmt: skip
    peak, floor, warmup = (list(ends) for ends in (bounds.peak_lr, bounds.decay_floor, bounds.warmup_fraction))
    sections = [
        ("# What the fine-tune is for, in a sentence or two: it heads every report.", {
            "name": re.sub(r"[^A-Za-z0-9._-]+", "-", Path(train).stem).strip(".-_") or "sweep",
            "objective": "Say here what the fine-tuned model should do better than the base model.",
            "storage_path": "outputs",
        }),
        ("", {"model": {"name": model, "method": method}}),
        (f"# {looks[train].samples:,} samples; the longest has some {tokens:,} tokens.", {
            "data": {"train": train, "max_tokens": limit},
        }),
        ("# The first area is the task itself; others show what the model must not forget.", {
            "heldout": {"areas": areas, "answers_at": ["base", "last"]},
        }),
        ("", {"training": {"batch_size": 8 if looks[train].samples <= FEW_SAMPLES else 16,
                           "checkpoints_at": [0.5, 1.0]}}),
        (f"# Recommended bounds. {bounds.source}.", {"space": {
            "peak_lr": {"low": peak[0], "high": peak[1], "log": True},
            "warmup_fraction": {"low": warmup[0], "high": warmup[1]},
            "decay_floor": {"low": floor[0], "high": floor[1]},
        }}),
        ("", {"search": {"trials": 12}}),
    ]  # fmt: skip
    return "\n".join(f"{comment}\n{yaml.safe_dump(part, sort_keys=False)}".lstrip("\n") for comment, part in sections)


def parameters_in(model: str) -> int | None:
    """The number of parameters that a model's name states, such as 8B or 135M; None where it states none."""
    match = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", model.replace("-", " ").replace("_", " "), re.I)
    return round(float(match[1]) * (BILLION if match[2].lower() == "b" else BILLION // 1000)) if match else None


def _area_name(path: str, all_paths: list[str]) -> str:
    stems = [re.sub(r"[^A-Za-z0-9_-]+", "-", Path(one).stem) for one in all_paths]
    index = all_paths.index(path)
    return stems[index] if stems.count(stems[index]) == 1 else f"{stems[index]}-{index + 1}"


if __name__ == "__main__":
    sys.exit(main())
