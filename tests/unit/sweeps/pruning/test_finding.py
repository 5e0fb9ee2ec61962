"""Why a trial was stopped as dominated, in numbers and with a value to try."""

import numpy as np
import pytest

from sweeps.pruning.finding import dominated_finding
from sweeps.pruning.trial_curve import TrialCurve

EVIDENCE = {"best": "t2", "window_samples": 20, "gap": 1.5, "finished": 2}


def curve(name, peak, seen=160):
    return TrialCurve(name, 0, np.ones(seen), np.linspace(peak, peak / 10, 160), 8, objective=1.0)


@pytest.mark.parametrize(
    ("own", "advice"),
    [
        (9e-3, "lower space.peak_lr: try peak_lr 3.0e-04, that of t2 (this trial's, 9.0e-03, is 30 times that)"),
        (3e-5, "raise space.peak_lr: try peak_lr 3.0e-04, that of t2 (this trial's, 3.0e-05, is 10 times below that)"),
        (3.3e-4, "keep space.peak_lr near 3.0e-04: t2 has the like and learns faster by its other settings"),
    ],
)
def test_the_advice_names_the_better_trials_peak(own, advice):
    finding = dominated_finding(curve("t9", own, seen=30), [curve("t1", 1e-3), curve("t2", 3e-4)], EVIDENCE, 8)
    assert finding["advice"] == advice
    assert (finding["rule"], finding["severity"], finding["step"]) == ("dominated", "warning", 4)
    assert finding["evidence"] == {**EVIDENCE, "peak_lr": own, "best_peak_lr": 3e-4, "from_step": 2, "to_step": 4}
