"""Held-out items on which the winner beats the base model or loses to it, with their text."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

from analysis.records.sweep import BASELINE, HeldoutScore, Sweep
from analysis.records.tag_scores import TagScore, tag_scores
from analysis.report.elements.blocks import Block, Card, Cards, Section, Table, Text
from analysis.report.elements.material import Material
from analysis.suspects.find import read_texts
from trainables.storage.layout import CACHE_FOLDER, area_file

SHOWN = 8
TEXT_CHARACTERS = 1200


@dataclass(frozen=True)
class Pair:
    """An item's scores by the base model and the winner."""

    base: HeldoutScore
    winner: HeldoutScore

    @property
    def gain(self) -> float:
        """Nats a token by which the winner is better."""
        return self.base.nll - self.winner.nll


def section(material: Material) -> Section | None:
    pairs = read_pairs(material)
    if not pairs:
        return None
    ordered = sorted(pairs, key=lambda pair: (-pair.gain, pair.base.area, pair.base.id))
    won = [pair for pair in ordered if pair.gain > 0]
    lost = [pair for pair in reversed(ordered) if pair.gain < 0]
    texts = _texts(material, [*won[:SHOWN], *lost[:SHOWN]])
    winner = material.board["winner"]
    assert winner, "pairs exist only for a winner"
    lead = (
        f"{winner['trial_id']} at step {winner['step']} has a lower loss than the base model on {len(won)} of "
        f"{len(pairs)} items, a higher one on {len(lost)}."
    )
    blocks: list[Block] = [Text(lead), _counts(pairs), *_by_tag(material.sweep, winner["trial_id"], winner["step"])]
    for name, chosen, opened in (("lost", lost[:SHOWN], True), ("won", won[:SHOWN], False)):
        if chosen:
            summary = f"The {len(chosen)} items that it {name} by the most"
            blocks.append(Cards(summary, [_card(pair, texts) for pair in chosen], opened))
    return Section("items", "Items won and lost", blocks)


def read_pairs(material: Material) -> list[Pair]:
    """Pairs the items of the weighted areas."""
    winner = material.board["winner"]
    if winner is None:
        return []
    base = material.sweep.heldout(BASELINE).by_step.get(0, {})
    scored = material.sweep.heldout(winner["trial_id"]).by_step.get(winner["step"], {})
    # Only weighted areas: sealed items stay closed.
    keys = sorted(key for key in base.keys() & scored.keys() if key[0] in material.sweep.weights)
    return [Pair(base[key], scored[key]) for key in keys]


def _counts(pairs: list[Pair]) -> Table:
    rows = []
    for area in sorted({pair.base.area for pair in pairs}):
        own = [pair for pair in pairs if pair.base.area == area]
        won, lost = sum(pair.gain > 0 for pair in own), sum(pair.gain < 0 for pair in own)
        gained, missed = (_answers(own, better) for better in (True, False))
        rows.append([area, str(len(own)), str(won), str(lost), gained, missed])
    header = ["area", "items", "lower loss", "higher loss", "newly right", "newly wrong"]
    return Table("Items by area, the winner against the base model", header, rows)


def _by_tag(sweep: Sweep, trial_id: str, step: int) -> list[Table]:
    rows = [
        [score.tag, score.value, f"{score.items:,}", f"{score.contexts:,}", f"{score.gain:+.3f}", _span(score)]
        for score in tag_scores(sweep, trial_id, step)
    ]
    header = ["tag", "value", "items", "contexts", "gain", "95% interval"]
    return [Table("Gain over the base model by tag, nats a token", header, rows, words=2)] if rows else []


def _span(score: TagScore) -> str:
    return "-" if isnan(score.low) else f"{score.low:+.3f} to {score.high:+.3f}"


def _answers(pairs: list[Pair], better: bool) -> str:
    # Answers that became right, or wrong, by exact match; `-` where one model generated none.
    known = [
        (pair.base.exact_match, pair.winner.exact_match)
        for pair in pairs
        if pair.base.exact_match is not None and pair.winner.exact_match is not None
    ]
    changed = sum((after > before) if better else (after < before) for before, after in known)
    return str(changed) if known else "-"


def _texts(material: Material, pairs: list[Pair]) -> dict[tuple[str, str], tuple[str, str]]:
    """Prompt and expected response by area and id; areas whose tokenized file is gone are left out."""
    found = {}
    for area in sorted({pair.base.area for pair in pairs}):
        path = material.sweep.folder / CACHE_FOLDER / area_file(area)
        texts = read_texts(path) if path.is_file() else {}
        found.update({(area, name): (text.prompt, text.response) for name, text in texts.items()})
    return found


def _card(pair: Pair, texts: dict[tuple[str, str], tuple[str, str]]) -> Card:
    base, winner = pair.base, pair.winner
    parts = []
    if (base.area, base.id) in texts:
        prompt, response = texts[base.area, base.id]
        parts += [("prompt", shortened(prompt)), ("expected", shortened(response))]
    for who, score in (("base model", base), ("winner", winner)):
        if score.answer is not None:
            parts.append((f"{who} answers", shortened(score.answer)))
    figures = f"loss {base.nll:.3f} before, {winner.nll:.3f} after: {pair.gain:+.3f} nats a token"
    return Card(f"{base.area} / {base.id}", figures, parts)


def shortened(text: str, characters: int = TEXT_CHARACTERS) -> str:
    """The end of a long text, where the question usually is."""
    return text if len(text) <= characters else f"… {text[-characters:]}"
