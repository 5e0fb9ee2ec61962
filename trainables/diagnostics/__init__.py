"""Findings from a trial's curves, with numeric evidence and advice. Pure and incremental.

`CurveMonitor` reads the training curve step by step; `heldout_findings` compares the held-out scores at a trial's end.
Only a finding of severity "error" ends a trial, as diverged. A confirmed `steady_rise` is a warning here; the trial
scheduler decides whether to stop for it.
"""

from __future__ import annotations

from trainables.diagnostics.finding import Finding, Severity
from trainables.diagnostics.generalization import HeldoutPoint, heldout_findings
from trainables.diagnostics.monitor import RULES, CurveMonitor

__all__ = ["RULES", "CurveMonitor", "Finding", "HeldoutPoint", "Severity", "heldout_findings"]
