"""Findings from loss curves: which curves alarm, when, with which evidence and advice."""

import json
import math
import random

import pytest

from tests.unit.trainables.diagnostics.helpers import only, rules
from trainables.diagnostics import RULES, CurveMonitor, Finding
from trainables.optim.lr_schedule import LRSchedule

SCHEDULE = LRSchedule(peak_lr=1e-4, floor_lr=4e-5, steps=100, warmup_steps=5)
HALF_LR = "lower space.peak_lr: try peak_lr 5.0e-05 (half of this trial's)"
CLIP = "; clip gradients: try training.max_grad_norm 1.0 (this trial did not clip)"


def watch(max_grad_norm: float = 1.0) -> CurveMonitor:
    return CurveMonitor(SCHEDULE, max_grad_norm)


def read(losses: list[float]) -> list[Finding]:
    watched = watch()
    steps = enumerate(losses, start=1)
    return [finding for step, loss in steps for finding in watched.update(step, loss, 1.0, SCHEDULE(step - 1))]


def only_divergence(findings: list[Finding]) -> Finding:
    """A loss that jumps while the LR is at peak is a steady rise too."""
    assert rules(findings) <= {"divergence", "steady_rise"}
    return only(findings, "divergence")


def noisy(level: float, steps: int, seed: int = 0, sd: float = 0.4) -> list[float]:
    rng = random.Random(seed)
    return [max(0.0, rng.gauss(level, sd)) for _ in range(steps)]


@pytest.mark.parametrize(
    ("loss", "grad_norm", "evidence"),
    [
        (math.nan, 1.0, {"loss": "nan", "grad_norm": 1.0}),
        (math.inf, 1.0, {"loss": "inf", "grad_norm": 1.0}),
        (2.0, math.inf, {"loss": 2.0, "grad_norm": "inf"}),
        (2.0, math.nan, {"loss": 2.0, "grad_norm": "nan"}),
    ],
)
@pytest.mark.parametrize(("max_grad_norm", "advice"), [(1.0, HALF_LR), (0.0, HALF_LR + CLIP)])
def test_non_finite(loss: float, grad_norm: float, evidence: dict, max_grad_norm: float, advice: str) -> None:
    watched = watch(max_grad_norm)
    assert watched.update(1, 2.0, 1.0, 2e-5) == []
    assert watched.update(2, loss, grad_norm, 4e-5) == [
        {
            "rule": "non_finite",
            "severity": "error",
            "step": 2,
            "evidence": evidence | {"lr": 4e-5, "from_step": 2, "to_step": 2},
            "advice": advice,
        }
    ]


def test_non_finite_before_the_first_update_does_not_blame_the_lr() -> None:
    (finding,) = watch().update(1, math.nan, math.nan, 2e-5)
    assert "training.precision to fp32" in finding["advice"]
    assert "peak_lr" not in finding["advice"]


def test_findings_are_json_without_extensions_and_name_the_steps_compared() -> None:
    findings = read([2.0, math.nan]) + read([*noisy(2.5, 10), *noisy(10.0, 10)])
    assert {"non_finite", "divergence"} <= rules(findings)
    assert json.loads(json.dumps(findings, allow_nan=False)) == findings
    for finding in findings:
        assert 1 <= finding["evidence"]["from_step"] <= finding["evidence"]["to_step"] == finding["step"]


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        # The rule speaks at the fifth high step in a row.
        ([2.5] * 20 + [10.0] * 20, 25),
        # As early as the ninth step, although the blow-up lies inside the first eight.
        ([2.5] * 4 + [10.0] * 20, 9),
        # Just above twice the start / just above two nats more, after 30 steps.
        ([3.0] * 30 + [6.01] * 8, 35),
        ([1.0] * 30 + [3.01] * 8, 35),
        # It went down before it blew up: judged by the start.
        ([2.0] * 10 + [1.0] * 10 + [4.5] * 8, 25),
        (noisy(2.5, 40) + noisy(10.8, 20), 45),
    ],
)
def test_divergence_speaks(losses: list[float], step: int) -> None:
    finding = only_divergence(read(losses))
    assert (finding["severity"], finding["step"]) == ("error", step)
    assert finding["evidence"]["loss_level"] > finding["evidence"]["threshold"]
    assert finding["advice"] == HALF_LR


def test_divergence_evidence() -> None:
    finding = only_divergence(read([3.0] * 30 + [7.0] * 8))
    assert finding["evidence"] == {
        "start_loss": 3.0,
        "loss_level": 7.0,
        "threshold": 6.0,
        "window_steps": 8,
        "lr": SCHEDULE(34),
        "from_step": 28,
        "to_step": 35,
    }


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param([2.5 * 0.97**step for step in range(90)], id="healthy"),
        pytest.param([2.0] * 40 + [4.0] * 40, id="two nats and twice, not above"),
        pytest.param([3.0] * 40 + [6.0] * 40, id="more than two nats, only twice"),
        pytest.param([0.5] * 40 + [2.5] * 40, id="more than twice, only two nats"),
        pytest.param(([2.0] * 9 + [60.0]) * 9, id="single batches of odd samples"),
        pytest.param([2.0] * 40 + [10.0] * 4 + [2.0] * 40, id="four high steps, then back"),
        pytest.param([2.5] * 4 + [12.0] * 3, id="fewer than eight steps"),
    ],
)
def test_divergence_is_silent(losses: list[float]) -> None:
    assert rules(read(losses)) & {"divergence", "non_finite"} == set()


def test_flat_noisy_curves_do_not_diverge() -> None:
    """Per-step sd 0.7 nats is a batch of 2 samples whose losses have the spread of 1 nat seen in practice."""
    alarms = [rules(read(noisy(2.7, 90, seed, sd=0.7))) for seed in range(300)]
    assert not any("divergence" in found for found in alarms)


def test_each_rule_speaks_once() -> None:
    findings = read([2.0] * 10 + [9.0] * 10 + [math.nan] * 5 + [9.0] * 75)
    fired = [finding["rule"] for finding in findings]
    assert {"divergence", "non_finite"} <= set(fired) <= set(RULES)
    assert len(fired) == len(set(fired))


@pytest.mark.parametrize("step", [3, 2, 0])
def test_steps_must_ascend(step: int) -> None:
    watched = watch()
    watched.update(3, 2.0, 1.0, 1e-4)
    with pytest.raises(ValueError, match=f"got {step} after 3"):
        watched.update(step, 2.0, 1.0, 1e-4)
