"""Time and memory of the data audit by size of the data, and recall of planted faults.

Each size is generated in a temporary folder and audited in a process of its own, with two workers. Memory is the sum of
the resident sets of all its processes, sampled ten times a second; shared pages count once for each process. With
`--manifest`, a file with known faulty lines is audited against the held-out sets in `heldout/`, and precision and
recall are printed by rule.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from benchmarks.audit.generated_data import RATES, Truth, write_data
from benchmarks.audit.one_audit import FIELDS, PROCESSES
from benchmarks.common import parser, print_result, say
from trainables.config.defect_rules import RULES
from trainables.config.sections import ModelConfig
from trainables.data.audit.audit import Audit, AuditSource, audit, kept_samples
from trainables.data.tokenization import tokenize

MOST_GROWTH, MOST_BYTES = 12.0, 2_000_000_000  # targets: from 100,000 to 1,000,000 lines; peak memory
# Rules that one pass over a text finds together; figures of lines a second are of the whole pass.
FOUND_TOGETHER = {
    "lines": "broken lines, wrong types, missing fields, empty texts",
    "fingerprints": "exact duplicates, repeated ids, conflicting responses, normalized text",
    "near_duplicate": "near duplicates: MinHash",
    "leakage": "leakage",
    "mojibake": "mojibake",
    "control_characters": "control characters",
    "format_departure": "departures from the common format",
    "compare": "comparing all lines: sorting, candidates read again, lengths",
}
NAMES = {"over_long": "too_long", "heldout_leak": "leakage"}  # of the manifest, where they differ from the rules'


def main() -> None:
    options = parse()
    if options.manifest:
        print_result({"benchmark": "audit", "rules": against_manifest(options)})
    else:
        print_result(growth(options.lines, options.duplicates))


def parse() -> argparse.Namespace:
    command = parser("audit", str(__doc__).partition("\n")[0], "--lines 10000 100000")
    command.add_argument("--lines", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes")
    command.add_argument("--duplicates", type=float, default=0.02, help="share of near duplicates, and of exact ones")
    command.add_argument("--manifest", help="a manifest of faulty lines, for precision and recall")
    command.add_argument("--model", default=".cache/models/SmolLM2-135M-Instruct", help="with --manifest: tokenizer")
    command.add_argument("--max-tokens", type=int, default=536, help="with --manifest: longest sound sample")
    return command.parse_args()


def growth(sizes: list[int], duplicates: float) -> dict[str, Any]:
    """Measures every size and the growth of time between them."""
    results = [measure(lines, duplicates) for lines in sizes]
    for before, after in itertools.pairwise(results):
        for kind in ("seconds", "cpu_seconds"):
            after[f"{kind}_times_the_last"] = round(after[kind] / before[kind], 2)
    return {
        "benchmark": "audit",
        "processes": PROCESSES,
        "sizes": results,
        "targets": {"growth_from_100k_to_1m": MOST_GROWTH, "peak_bytes": MOST_BYTES},
    }


def measure(lines: int, duplicates: float) -> dict[str, Any]:
    """Generates data of one size, audits it in a fresh process and compares with the planted faults."""
    with tempfile.TemporaryDirectory(prefix="audit-") as name:
        folder = Path(name)
        rates = RATES | {"exact_duplicate": duplicates, "near_duplicate": duplicates}
        truth = write_data(folder, lines, rates=rates)
        size = (folder / "train.jsonl").stat().st_size
        say(f"{lines:,} lines generated, {size / lines:.0f} bytes each")
        result, peak = watched([sys.executable, "-m", "benchmarks.audit.one_audit", name])
    say(f"{lines:,} lines audited in {result['seconds']:.1f} s, {peak / 1e6:.0f} MB")
    spent = result["by_rule"]
    return {
        "lines": lines,
        "bytes": size,
        "seconds": round(result["seconds"], 2),
        "cpu_seconds": round(result["cpu_seconds"], 2),
        "lines_per_second": round(lines / result["seconds"]),
        "peak_bytes": peak,
        "lines_per_cpu_second": {
            FOUND_TOGETHER[kind]: round(lines / max(spent[kind], 1e-9)) for kind in FOUND_TOGETHER
        },
        "rules": precision_and_recall(truth, {rule: set(found) for rule, found in result["found"].items()}),
    }


def watched(command: list[str]) -> tuple[dict[str, Any], int]:
    """Runs a command; returns its JSON and the peak memory of its process tree, in bytes."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        top = psutil.Process(process.pid)
        while True:
            try:
                peak = max(peak, sum(one.memory_info().rss for one in [top, *top.children(recursive=True)]))
                text, _ = process.communicate(timeout=0.1)
                break
            except (subprocess.TimeoutExpired, psutil.NoSuchProcess):  # a child may end between listing and reading
                continue
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    return json.loads(text), peak


def precision_and_recall(truth: Truth, found: dict[str, set[int]]) -> dict[str, dict[str, Any]]:
    """Counts, precision and recall by rule."""
    table: dict[str, dict[str, Any]] = {}
    for rule in (rule for rule in RULES if rule in truth or rule in found):
        faulty, named = set(truth.get(rule, [])), found.get(rule, set())
        both = len(faulty & named)
        table[rule] = {
            "faulty": len(faulty),
            "found": len(named),
            "precision": round(both / len(named), 4) if named else None,
            "recall": round(both / len(faulty), 4) if faulty else None,
        }
    return table


def against_manifest(options: argparse.Namespace) -> dict[str, Any]:
    path = Path(options.manifest)
    manifest = json.loads(path.read_text(encoding="utf-8"))
    # The manifest's name of the file has the data set's name before it.
    train = AuditSource("data.train", str(path.parent / manifest["file"].partition(".")[2]))
    areas = {
        one.stem: AuditSource(f"heldout.areas.{one.stem}", str(one)) for one in sorted(path.parent.glob("heldout/*"))
    }
    done = audit(train, areas, FIELDS, {"too_long": "drop"}, processes=PROCESSES)
    add_too_long(done, train, options.model, options.max_tokens)
    truth = {NAMES.get(rule, rule): lines for rule, lines in manifest["lines_by_defect"].items()}
    found = {rule: set(hits.lines.tolist()) for rule, hits in done.train.hits.items()}
    return precision_and_recall(truth, found)


def add_too_long(done: Audit, train: AuditSource, model: str, max_tokens: int) -> None:
    """Adds the too long samples, by tokenizing the kept ones as the pre-flight does."""
    from trainables.models.pretrained import load_tokenizer

    tokenizer = load_tokenizer(Path(model), ModelConfig(name=model))
    with tempfile.TemporaryDirectory() as folder:
        samples = kept_samples(train, FIELDS, done.train)
        kept = tokenize(samples, tokenizer, None, max_tokens, Path(folder) / "train.arrow")
    done.add_too_long("data.train", {item.line: item.tokens for item in kept.too_long}, max_tokens)


if __name__ == "__main__":
    main()
