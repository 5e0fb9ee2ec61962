"""`python -m analysis.benchmark NAME`: any checkpoint of any sweep, and any model, on a fixed set of areas."""

from __future__ import annotations

import json
import re
import sys
from argparse import Namespace
from typing import Any

from rich.console import Console

from analysis.benchmark.fixed_areas import read_areas
from analysis.benchmark.reading import answers, history, pinned, read_models, results_of, table_rows
from analysis.benchmark.scoring import fix, fixed, score_all
from analysis.benchmark.storage import Files, latest
from analysis.benchmark.views import print_answers, print_history, print_pins, print_table_of
from analysis.cli import DONE, Parser, run
from trainables.errors import UserError

EXAMPLE = """example:
  python -m analysis.benchmark finance --areas heldout.jsonl --models outputs/demo outputs/demo:base
  python -m analysis.benchmark finance --models outputs/demo-2 outputs/demo:t0003:40 best-merged org/model
  python -m analysis.benchmark finance show --answers demo:base demo-2:t0001:26
  python -m analysis.benchmark finance show --pin heldout/q17       # one question over all checkpoints
  python -m analysis.benchmark kept --areas forgetting --models outputs/demo:base outputs/demo:all

A model is SWEEP_DIR[:TRIAL[:STEP]] (default: the winner; TRIAL may be base or all, STEP all), a folder or a hub id.

exit codes: 0 done, 2 wrong arguments or files, 3 a sweep without a complete trial"""

SHOW = "show"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.benchmark", "Models on a fixed set of areas, best first.", EXAMPLE)
    parser.add_argument(
        "words", metavar="NAME", nargs="+", help="the benchmark; NAME-HASH for one version; with `show`: only show it"
    )
    parser.add_argument(
        "--storage", metavar="STORAGE", default="outputs", help="where it is kept (outputs): a folder or URL"
    )
    parser.add_argument(
        "--areas",
        metavar="FILE",
        nargs="+",
        help="fix these areas: data files (AREA=FILE names one), a config or SWEEP_DIR (its areas), or forgetting",
    )
    parser.add_argument("--max-new-tokens", metavar="N", type=int, help="with --areas: longest answer (32)")
    parser.add_argument("--models", metavar="MODEL", nargs="+", default=[], help="models to score, each once")
    parser.add_argument("--template", help="for models of no sweep: a wrapper with {prompt} and {response}")
    parser.add_argument(
        "--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of models of no sweep (auto)"
    )
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with these models")
    parser.add_argument(
        "--metric", help="nll, bits_per_byte or a scorer; default: nll, or bits_per_byte for other tokens"
    )
    parser.add_argument(
        "--answers", metavar="MODEL", nargs="*", help="show answers side by side; default: of all models"
    )
    parser.add_argument("--items", metavar="N", type=int, default=10, help="with --answers: items shown (10)")
    parser.add_argument("--pin", metavar="AREA/ID", action="append", default=[], help="follow an item over all models")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    given = parser.parse_intermixed_args(arguments)  # `NAME --storage STORAGE show`
    return run(lambda: _benchmark(given))


def _benchmark(given: Namespace) -> int:
    from analysis.benchmark.other_models import Options

    name = _name(given)
    options = Options(given.template, given.precision, given.trust_remote_code)
    files = Files(given.storage)
    areas = read_areas(name, given.areas, given.max_new_tokens) if given.areas else None
    full_name = fix(files, areas) if areas else latest(files, name)
    if given.models:
        score_all(files, full_name, given.models, options, lambda line: print(line, file=sys.stderr, flush=True))
    if given.areas and not given.models:
        print(json.dumps({"benchmark": full_name}) if given.json else f"fixed: {full_name}")
    else:
        _show(given, files, full_name)
    return DONE


def _name(given: Namespace) -> str:
    names = [word for word in given.words if word != SHOW]
    if len(names) != 1 or len(given.words) > 2:
        raise UserError("NAME", "must be one name, with or without show", " ".join(given.words), "name a benchmark")
    if not _NAME.fullmatch(names[0]):
        rule = "must be letters, digits, `.`, `_` and `-`, a letter or digit first"
        raise UserError("NAME", rule, names[0], "rename it")
    if SHOW in given.words and (given.areas or given.models):
        raise UserError(SHOW, "shows what was scored", "--areas or --models", f"leave out {SHOW}")
    for option, value in (("--items", given.items), ("--max-new-tokens", given.max_new_tokens)):
        if value is not None and value < 1:
            raise UserError(option, "must be 1 or more", value, "give a positive number")
    return str(names[0])


def _show(given: Namespace, files: Files, full_name: str) -> None:
    areas = fixed(files, full_name)
    models = read_models(files, full_name, areas.samples)
    results = results_of(models, areas.heldout.weights, given.metric)
    rows, lines = table_rows(results), history(results)
    pins = [(area, name) for area, _, name in (text.partition("/") for text in given.pin)]
    followed = [pinned(results, key) for key in pins]
    side = None if given.answers is None else answers(models, areas.samples, given.answers)
    if given.json:
        found: dict[str, Any] = {"benchmark": full_name, "metric": results.metric, "models": rows, "history": lines}
        found |= {"pins": {"/".join(key): one for key, one in zip(pins, followed, strict=True)}} if pins else {}
        found |= {} if side is None else {"answers": side}
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    print_table_of(console, full_name, results, rows)
    print_history(console, lines, results.lower)
    for key, one in zip(pins, followed, strict=True):
        print_pins(console, key, one)
    if side is not None:
        print_answers(console, side, given.items)


if __name__ == "__main__":
    sys.exit(main())
