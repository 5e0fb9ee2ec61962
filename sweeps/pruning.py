"""Stop or go: whether a running trial is worth its remaining steps. Pure.

A trial is stopped for one of three reasons, and every decision carries its numbers:

- at once, when its loss is not finite or has diverged (the training loop does that by itself);
- when diagnostics confirm a steady rise of the loss at the peak of its LR schedule;
- as dominated, when its running loss is further behind that of the best trial, on the same samples, than the rest of
  the epoch can win back. That catch-up (the difference now less the difference at the end) is learnt from the sweep's
  finished trials, see `sweeps.catch_up`; before there are some, none is stopped for it.

Never during warm-up. Sources of the idea: samples are seen once and in the same order by all trials of a sweep, so that
the running loss is a held-out estimate and differences of it are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.catch_up import LEAST_DF, LEAST_LOSS, Outlook, features_of, foretell, less
from sweeps.trial_curve import Array, TrialCurve

WINDOW = 0.1
"""Part of the epoch that the running loss is taken over: the last samples that were trained on (ours)."""

LEVEL = 0.95
"""Probability that a trial stopped as dominated would indeed have ended behind the best (ours)."""

FARTHEST = 1.5
"""Factor by which a trial's mean LR may lie outside those of finished trials for them to foretell it (ours)."""

AT_ONCE = ("non_finite", "divergence")
STEADY_RISE = "steady_rise"
DOMINATED = "dominated"


@dataclass(frozen=True)
class Decision:
    """What is to be done with a trial, and why.

    Attributes:
        stop: Whether it is stopped.
        rule: "non_finite", "divergence", "steady_rise" or "dominated"; None for a trial that goes on.
        evidence: The numbers that were compared.
    """

    stop: bool
    rule: str | None
    evidence: dict[str, Any]


def decide(
    trial: TrialCurve,
    finished: Sequence[TrialCurve],
    siblings: Sequence[TrialCurve] = (),
    *,
    worth: float = 0.0,
    level: float = LEVEL,
) -> Decision:
    """Decides whether a running trial goes on.

    Args:
        trial: The trial, at a report point.
        finished: Complete trials of the sweep, with their whole curves.
        siblings: Other running trials; those that have come as far can be better for certain too.
        worth: Nats a token; an improvement on the best by less is not worth finishing a trial for.
        level: Probability that a trial stopped as dominated would have ended behind.

    Returns:
        The decision with its numbers.

    Raises:
        ValueError: A finished trial has no finite objective or not its whole curve.
    """
    found = {finding["rule"]: finding for finding in trial.findings}
    for rule in AT_ONCE:
        if rule in found:
            return Decision(True, rule, {"step": found[rule]["step"], **found[rule]["evidence"]})
    if not np.all(np.isfinite(trial.nll)):
        place = int(np.flatnonzero(~np.isfinite(trial.nll))[0])
        return Decision(True, AT_ONCE[0], {"sample": place, "loss": str(trial.nll[place])})
    progress = {"fraction": trial.seen / trial.samples, "warmup_fraction": trial.warmup_samples / trial.samples}
    if trial.seen <= trial.warmup_samples:
        return Decision(False, None, progress)
    if STEADY_RISE in found:
        seen = found[STEADY_RISE]
        return Decision(True, STEADY_RISE, {**progress, "step": seen["step"], **seen["evidence"]})
    evidence = {**progress, **_against_finished(trial, finished, level)}
    evidence |= _against_running(trial, finished, siblings, level)
    behind = [evidence[name] for name in ("behind_best", "behind_running") if name in evidence]
    stop = any(bound + worth > 0.0 for bound in behind)
    return Decision(stop, DOMINATED if stop else None, evidence)


def predicted_final(trial: TrialCurve, finished: Sequence[TrialCurve], base_objective: float) -> float:
    """The final objective that a stopped trial is put down with: never a value from the middle of its epoch.

    It is what finished trials foretell, made worse by one standard deviation, so that luck does not make it attractive;
    not below the best finished trial's, for it was stopped as no better; and not above the base model's (gain 0), which
    stands for trials that diverge, unless even the best is above that. Where finished trials foretell nothing, and for
    a trial that was stopped for its rising or diverging loss, it is the base model's.

    Args:
        trial: The stopped trial.
        finished: Complete trials of the sweep.
        base_objective: The base model's, nats a token.
    """
    look = _look(trial, finished)
    stopped_for_loss = any(finding["rule"] in (*AT_ONCE, STEADY_RISE) for finding in trial.findings)
    if look is None or stopped_for_loss or not math.isfinite(look.outlook.final):
        return base_objective
    best = float(look.finals.min())
    worse = float(look.outlook.final + look.outlook.sd)
    return min(max(worse, best), max(base_objective, best))


@dataclass(frozen=True)
class _Look:
    """A trial among finished ones, at the place that it has come to."""

    peers: list[TrialCurve]
    window: slice
    heldout_at: int | None
    own: list[Array]
    finals: Array
    outlook: Outlook

    @property
    def best(self) -> TrialCurve:
        return self.peers[int(np.argmin(self.finals))]


def _look(trial: TrialCurve, finished: Sequence[TrialCurve]) -> _Look | None:
    """None before the whole window lies after warm-up, or where finished trials tell nothing of such a trial."""
    peers = [other for other in finished if _is_paired(trial, other)]
    finals = np.array([_objective(peer) for peer in peers])
    if not _is_near(trial, peers):
        return None
    window = slice(trial.seen - max(round(WINDOW * trial.samples), 1), trial.seen)
    if window.start < trial.warmup_samples or not np.all(np.isfinite(trial.nll[window])):
        return None
    heldout_at = _shared_checkpoint(trial, peers)
    own = _features([trial], window, heldout_at)
    best = peers[int(np.argmin(finals))]
    noise = _standard_error(trial.nll[window] - best.nll[window]) / (float(np.mean(trial.nll[window])) + LEAST_LOSS)
    features = less(_features(peers, window, heldout_at), own)
    outlook = foretell(features, finals, np.ones(len(peers)), own_noise=noise)
    return _Look(peers, window, heldout_at, own, finals, outlook)


def _is_paired(trial: TrialCurve, other: TrialCurve) -> bool:
    """Whether two trials saw the same samples in the same order: a replicate did not."""
    return trial.seed == other.seed and trial.samples == other.samples and trial.trial_id != other.trial_id


def _is_near(trial: TrialCurve, peers: Sequence[TrialCurve]) -> bool:
    """Whether the trial's mean LR lies among those of its peers, or not far outside."""
    means = [float(np.mean(peer.lr)) for peer in peers]
    return bool(means) and min(means) / FARTHEST <= float(np.mean(trial.lr)) <= max(means) * FARTHEST


def _objective(peer: TrialCurve) -> float:
    if peer.objective is None or not math.isfinite(peer.objective) or peer.seen != peer.samples:
        raise ValueError(f"{peer.trial_id}: a finished trial needs its whole curve and a finite objective")
    return peer.objective


def _shared_checkpoint(trial: TrialCurve, peers: Sequence[TrialCurve]) -> int | None:
    """The trial's last checkpoint that all peers have too, where they are enough to learn what it is worth."""
    shared = [at for at in trial.heldout if at <= trial.seen and all(at in peer.heldout for peer in peers)]
    columns = 1 + len(("running loss", "LR mass", "its square", "held-out"))
    return max(shared) if shared and len(peers) >= columns + LEAST_DF else None


def _features(trials: Sequence[TrialCurve], window: slice, heldout_at: int | None) -> list[Array]:
    return features_of(
        np.array([np.mean(trial.nll[window]) for trial in trials]),
        np.array([np.mean(trial.lr) for trial in trials]),
        None if heldout_at is None else np.array([trial.heldout[heldout_at] for trial in trials]),
    )


def _standard_error(differences: Array) -> float:
    """Of the mean of paired differences; 0 for a single one, which tells none."""
    return float(np.std(differences, ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0


def _against_finished(trial: TrialCurve, finished: Sequence[TrialCurve], level: float) -> dict[str, Any]:
    """The paired test against the best finished trial, in numbers."""
    look = _look(trial, finished)
    if look is None or not math.isfinite(look.outlook.final):
        return {"finished": 0 if look is None else len(look.peers)}
    differences = trial.nll[look.window] - look.best.nll[look.window]
    gap, best = float(np.mean(differences)), float(look.finals.min())
    behind = float(look.outlook.lowest(level)) - best
    return {
        "finished": len(look.peers),
        "window_samples": len(differences),
        "best": look.best.trial_id,
        "best_objective": best,
        "gap": gap,
        "gap_standard_error": _standard_error(differences),
        "catch_up_bound": gap - behind,
        "predicted_final": float(look.outlook.final),
        "prediction_sd": float(look.outlook.sd),
        "df": int(look.outlook.df),
        "level": level,
        "behind_best": behind,
    }


def _against_running(
    trial: TrialCurve, finished: Sequence[TrialCurve], siblings: Sequence[TrialCurve], level: float
) -> dict[str, Any]:
    """The same against the running trial with the best prospects, among those that have come as far."""
    look = _look(trial, finished)
    if look is None or not math.isfinite(look.outlook.final):
        return {}
    found = []
    for other in siblings:
        ready = other.warmup_samples <= look.window.start and other.seen >= trial.seen and _is_paired(trial, other)
        if ready and np.all(np.isfinite(other.nll)) and (look.heldout_at is None or look.heldout_at in other.heldout):
            features = less(_features([other], look.window, look.heldout_at), look.own)[0]
            found.append((float(look.outlook.lowest_behind(features, level)), other.trial_id))
    if not found:
        return {}
    behind, other_id = max(found)
    return {"running_best": other_id, "behind_running": behind}
