"""PURE. What was too little to decide on: trials, steps, right answers, an answer's tokens. The thresholds are ours."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.advice.evidence import Advice, SweepEvidence

# Fewer trials seldom bracket the best LR: two points on each side of it, in a range of a decade and a half.
FEW_TRIALS = 8

# In fewer steps an LR schedule has hardly a warm-up, and AdamW's second moment (beta2 0.999) sees next to nothing.
FEW_STEPS = 20


# Share of an area's answers that were cut from which on its scores are of unfinished texts.
MANY_CUT = 0.1


def cut_answers(seen: SweepEvidence) -> Iterator[Advice]:
    """Advice where many answers of the best setting had not ended after `max_new_tokens`."""
    for area, (count, items, limit) in seen.cut_answers.items():
        if count >= MANY_CUT * items:
            key, more = f"heldout.areas.{area}.max_new_tokens", 2 * limit
            reason = (
                f"{count} of {items} answers in {area} were cut at {limit} tokens, so exact match may be too low "
                f"there. Raise max_new_tokens to {more}."
            )
            # Where answers decide, the next sweep would not compare with this one, which it is to learn from.
            yield Advice("cut_answers", reason, {} if seen.answers_decide or "." in area else {key: more})


def too_little(seen: SweepEvidence) -> Iterator[Advice]:
    """Advice where there was too little to decide on, the most important first."""
    if seen.none_right:
        todo = "Use more training data, and compare the answers with the expected ones."
        yield Advice("none_right", f"No answer is correct yet ({seen.none_right} 0 %). {todo}")
    if seen.steps is not None and seen.steps < FEW_STEPS:
        samples = "" if seen.samples is None else f" than {seen.samples:,}"
        todo = f"Use more training samples{samples}."
        change = {} if seen.data_limit is None else {"data.limit": 2 * seen.data_limit}
        yield Advice("few_steps", f"An epoch has only {seen.steps} training steps. {todo}", change)
    if seen.ended < FEW_TRIALS:
        change = {"search.trials": FEW_TRIALS} if seen.trials < FEW_TRIALS else {}
        count = f"Only {seen.ended} trial{'s' if seen.ended != 1 else ''} finished"
        yield Advice("few_trials", f"{count}. Run {FEW_TRIALS} or more.", change)
