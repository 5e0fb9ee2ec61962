"""The pre-flight's view of the data: the audit, and whether the held-out areas are independent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.output.formats import percent
from analysis.report.elements.blocks import Block, Points, Section, Table
from analysis.report.elements.material import Material

SHOWN_LINES = 8
VERDICTS = {
    "no_evidence": "no evidence that training's own process made it",
    "same_process": "looks made by training's own process",
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
        blocks.append(Points([(f"{f['rule']} ({f['severity']})", str(f["message"])) for f in findings]))
    return Section("data", "Data", blocks) if blocks else None


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
    header = ["area", "process", "items", "clusters", "smallest difference", "shared wording", "shared runs", "far"]
    caption = (
        "Are the held-out areas real? Smallest difference: nats a token that the area can show at all. Far: items "
        "unlike any training sample"
    )
    return Table(caption, header, rows, words=2)
