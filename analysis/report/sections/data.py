"""The pre-flight's view of the data: the audit, and whether the held-out areas are independent."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.output.formats import percent
from analysis.report.elements.blocks import Block, Masked, Points, Section, Table
from analysis.report.elements.material import Material
from trainables.storage.layout import CACHE_FOLDER, TRAIN_FILE

SHOWN_LINES = 8
Sample = tuple[str, list[tuple[str, bool]]]  # its id, and its parts with whether each carries loss
VERDICTS = {
    "no_evidence": "differs from the training data",
    "same_process": "like the training data (i.i.d. split)",
    "too_small": "too few contexts to tell",
}


def section(material: Material) -> Section | None:
    if material.plan is None:
        return None
    blocks: list[Block] = []
    audit = material.plan.get("audit") or {}
    sets = {"training set": audit.get("train"), **{f"area {k}": v for k, v in (audit.get("areas") or {}).items()}}
    sets = {name: found for name, found in sets.items() if found}
    if sets:
        rows = [
            [name, str(found.get("path", "")), f"{found['lines']:,}", f"{found['samples_kept']:,}", _rules(found)]
            for name, found in sets.items()
        ]
        table = Table("Lines read and kept", ["set", "file", "lines", "kept", "rules broken"], rows, words=2)
        blocks += [table, *_broken(sets)]
    reality = material.plan.get("reality") or {}
    if reality:
        blocks.append(_reality(reality))
    findings = [f for f in material.plan.get("findings") or [] if isinstance(f, dict)]
    if findings:
        points = [(f"{f['rule']} ({f['severity']})", str(f["message"])) for f in findings]
        blocks.append(Points(points, folded=f"{len(points)} notes of the pre-flight"))
    blocks += rendered_sample(material)
    return Section("data", "Data checks", blocks) if blocks else None


def rendered_sample(material: Material) -> list[Block]:
    """The first training sample as the model sees it, the tokens that carry loss marked."""
    found = _shown_by_the_plan(material) or _decoded(material)
    if found is None:
        return []
    name, parts = found
    caption = f"Training sample {name} as the model sees it. Marked: the tokens that carry loss."
    return [Masked(caption, parts)]


def _shown_by_the_plan(material: Material) -> Sample | None:
    shown = (material.plan or {}).get("shown")
    if not shown:
        return None
    name, parts = shown[0]
    return str(name), [(str(text), bool(learnt)) for text, learnt in parts]


def _decoded(material: Material) -> Sample | None:
    """From the tokenized set; None where it, or the model's tokenizer, is not on this machine."""
    data = material.sweep.folder / CACHE_FOLDER / TRAIN_FILE
    vocabulary = Path(str((material.plan or {}).get("model_path"))) / "tokenizer.json"
    if not (data.is_file() and vocabulary.is_file()):
        return None
    from tokenizers import Tokenizer  # half a second, which pages without a sample need not spend

    with pa.memory_map(str(data)) as source:
        row = pa.ipc.open_file(source).get_batch(0).slice(0, 1).to_pylist()[0]
    tokenizer, parts = Tokenizer.from_file(str(vocabulary)), []
    for learnt, run in itertools.groupby(
        zip(row["label_mask"], row["input_ids"], strict=True), key=lambda pair: pair[0]
    ):
        parts.append((tokenizer.decode([token for _, token in run], skip_special_tokens=False), bool(learnt)))
    return row["id"], parts


def _rules(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{rule} {hits['count']:,}" for rule, hits in (found.get("rules") or {}).items()) or "none"


def _broken(sets: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    points = []
    for name, found in sets.items():
        for rule, hits in (found.get("rules") or {}).items():
            shown = ", ".join(map(str, hits["lines"][:SHOWN_LINES])) + (", …" if hits["count"] > SHOWN_LINES else "")
            example = hits["examples"][0] if hits.get("examples") else None
            text = f"; for instance line {example['line']}: {example['got']}" if example else ""
            points.append((f"{name}, {rule} ({hits['action']})", f"lines {shown}{text}"))
    return [Points(points)] if points else []


def _reality(reality: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for area, found in sorted(reality.items()):
        power, test = found.get("power") or {}, found.get("two_sample") or {}
        smallest = power.get("smallest_nll_difference")
        rows.append(
            [
                area,
                VERDICTS.get(str(test.get("verdict")), str(test.get("verdict", "not tested"))),
                f"{found['items']:,}",
                str(power.get("clusters", "-")),
                "-" if smallest is None else f"{smallest:.3f}",
                percent((found.get("template_overlap") or {}).get("share")),
                percent((found.get("shared_runs") or {}).get("share")),
                percent((found.get("far_items") or {}).get("share")),
            ]
        )
    header = ["area", "distribution vs train", "items", "contexts", "min. detectable effect", "template overlap"]
    header += ["13-gram overlap", "no near neighbor in train"]
    caption = "Held-out data checks; min. detectable effect in nats/token at 80 % power"
    return Table(caption, header, rows, words=2)
