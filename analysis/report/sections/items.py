"""Held-out items, base model against best, with prompts and answers, as a table to filter."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

from analysis.output.formats import trial_name
from analysis.records.sweep import BASELINE, HeldoutScore, Sweep
from analysis.records.tag_scores import TagScore, tag_scores
from analysis.report.elements.blocks import Block, Example, Examples, Section, Table, Text
from analysis.report.elements.material import Material
from analysis.report.sections import confusions
from analysis.suspects.find import read_texts
from trainables.storage.layout import CACHE_FOLDER, TRAIN_FILE, area_file

MOST_ITEMS = 1000  # in the page: those that changed first
PROMPT_CHARACTERS, ANSWER_CHARACTERS = 320, 240


@dataclass(frozen=True)
class Pair:
    """An item's scores by the base model and the best checkpoint."""

    base: HeldoutScore
    winner: HeldoutScore

    @property
    def gain(self) -> float:
        """Nats a token by which the best is better."""
        return self.base.nll - self.winner.nll

    @property
    def change(self) -> str:
        """What became of the answer, by exact match; of the loss where no answers were generated."""
        before, after = self.base.exact_match, self.winner.exact_match
        if before is None or after is None:
            return "lower loss" if self.gain > 0 else "higher loss" if self.gain < 0 else "same loss"
        if (before == 1) != (after == 1):
            return "newly right" if after == 1 else "newly wrong"
        return "right" if after == 1 else "wrong"


def section(material: Material) -> Section | None:
    pairs = read_pairs(material)
    if not pairs:
        return None
    winner = material.board["winner"]
    assert winner, "pairs exist only for a winner"
    won, lost = (sum(sign * pair.gain > 0 for pair in pairs) for sign in (1, -1))
    lead = (
        f"{trial_name(material.board, winner['trial_id'])} has a lower loss than the base model on {won} of "
        f"{len(pairs)} items, a higher one on {lost}."
    )
    blocks: list[Block] = [Text(lead), _counts(pairs), *_by_tag(material.sweep, winner["trial_id"], winner["step"])]
    # What changed comes first, the widest of each outcome before the others.
    order = ("newly wrong", "newly right", "higher loss", "lower loss", "wrong", "right", "same loss")
    shown = sorted(pairs, key=lambda pair: (order.index(pair.change), -abs(pair.gain), pair.base.area, pair.base.id))
    texts = texts_of(material, shown)
    blocks += _confusions(material, shown, texts)
    caption = "Held-out items: the base model's answer beside the best one's"
    blocks.append(Examples(caption, [_example(pair, texts) for pair in shown[:MOST_ITEMS]]))
    if len(shown) > MOST_ITEMS:
        blocks.append(Text(f"The first {MOST_ITEMS:,} of {len(shown):,} items, those that changed first.", "note"))
    return Section("items", "Examples: base vs best", blocks)


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
        answered = any(pair.winner.exact_match is not None for pair in own)
        right = [str(sum(pair.change == name for pair in own)) for name in ("newly right", "newly wrong")]
        rows.append([area, str(len(own)), str(won), str(lost), *(right if answered else ["-", "-"])])
    header = ["area", "items", "lower loss", "higher loss", "newly right", "newly wrong"]
    return Table("Items by area, the best against the base model", header, rows)


def _by_tag(sweep: Sweep, trial_id: str, step: int) -> list[Table]:
    rows = [
        [score.tag, score.value, f"{score.items:,}", f"{score.contexts:,}", f"{score.gain:+.3f}", _span(score)]
        for score in tag_scores(sweep, trial_id, step)
    ]
    header = ["tag", "value", "items", "contexts", "gain", "95% interval"]
    return [Table("Gain over the base model by tag, nats/token", header, rows, words=2)] if rows else []


def _span(score: TagScore) -> str:
    return "-" if isnan(score.low) else f"{score.low:+.3f} to {score.high:+.3f}"


def texts_of(material: Material, pairs: list[Pair]) -> dict[tuple[str, str], tuple[str, str]]:
    """Prompt and expected response by area and id; areas whose tokenized file is gone are left out."""
    found = {}
    for area in sorted({pair.base.area for pair in pairs}):
        path = material.sweep.folder / CACHE_FOLDER / area_file(area)
        texts = read_texts(path) if path.is_file() else {}
        found.update({(area, name): (text.prompt, text.response) for name, text in texts.items()})
    return found


def _confusions(material: Material, pairs: list[Pair], texts: dict[tuple[str, str], tuple[str, str]]) -> list[Block]:
    answers = [
        confusions.Answered(pair.base.area, texts[key][1], pair.base.answer or "", pair.winner.answer or "")
        for pair in pairs
        if (key := (pair.base.area, pair.base.id)) in texts and pair.winner.answer is not None
    ]
    training = material.sweep.folder / CACHE_FOLDER / TRAIN_FILE
    if not answers or not training.is_file():
        return []
    found = confusions.section_table(answers, lambda: [text.response for text in read_texts(training).values()])
    return [found] if found else []


def _example(pair: Pair, texts: dict[tuple[str, str], tuple[str, str]]) -> Example:
    base, best = pair.base, pair.winner
    prompt, expected = texts.get((base.area, base.id), ("(text not kept)", ""))
    return Example(
        area=base.area,
        id=base.id,
        prompt=shortened(prompt, PROMPT_CHARACTERS),
        expected=shortened(expected, ANSWER_CHARACTERS),
        base=shortened(base.answer or "", ANSWER_CHARACTERS),
        best=shortened(best.answer or "", ANSWER_CHARACTERS),
        change=pair.change,
        losses=f"{base.nll:.2f} → {best.nll:.2f}",
        base_cut=bool(base.cut),
        best_cut=bool(best.cut),
    )


def shortened(text: str, characters: int) -> str:
    """The end of a long text, where the question usually is."""
    return text if len(text) <= characters else f"… {text[-characters:]}"
