"""What a trial's curves show: findings with evidence in numbers and advice. Pure, incremental, resumable.

`CurveMonitor` reads the training curve step by step; `heldout_findings` compares the held-out scores at a trial's end.
Only a finding of severity "error" ends a trial, as diverged. A confirmed `steady_rise` is a warning here: whether to
stop for it is the trial scheduler's business.
"""

from __future__ import annotations

from trainables.diagnostics.finding import Finding, Severity
from trainables.diagnostics.generalization import HeldoutPoint, heldout_findings
from trainables.diagnostics.monitor import RULES, CurveMonitor

__all__ = ["RULES", "CurveMonitor", "Finding", "HeldoutPoint", "Severity", "heldout_findings"]
