"""Training samples with a higher loss than similar ones in every trial: a reading list."""

from __future__ import annotations

from analysis.report.elements.blocks import Card, Cards, Section, Text
from analysis.report.elements.material import Material
from analysis.report.sections.items import shortened
from analysis.suspects.find import Suspect, suspects_or_reason

SHOWN = 10
TEXT_CHARACTERS = 800


def section(material: Material) -> Section | None:
    if not material.sweep.trials:
        return None
    found, reason = suspects_or_reason(material.sweep.folder, SHOWN)
    title = "Possibly mislabeled samples"
    if reason:
        return Section("samples", title, [Text(f"They are not known: {reason}")])
    note = (
        "Because training is one epoch, each sample's loss is measured before the model has seen it. These samples had "
        "unusually high loss in every trial: often a wrong label, sometimes just hard. Review them by hand."
    )
    return Section("samples", title, [Text(note, "note"), Cards(f"The first {len(found)}", [_card(s) for s in found])])


def _card(suspect: Suspect) -> Card:
    found = suspect.found
    figures = (
        f"loss {found.nll:.2f}, {found.excess_nats:.2f} above similar samples (answer type: {found.kind}); mean over "
        f"{found.trials} trials"
    )
    prompt = shortened(suspect.prompt, TEXT_CHARACTERS)
    return Card(found.id, figures, [("prompt", prompt), ("answer", suspect.response)])
