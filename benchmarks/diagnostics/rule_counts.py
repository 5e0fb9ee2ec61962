"""How often a diagnostic rule spoke, should have spoken, and was right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.intervals import proportion


@dataclass
class RuleCounts:
    """Counts of one rule over curves."""

    right: int = 0  # curves on which the rule spoke and should have
    spoke: int = 0  # curves on which it spoke
    there: int = 0  # curves on which it should have spoken

    def add(self, spoke: bool, there: bool) -> None:
        self.right += spoke and there
        self.spoke += spoke
        self.there += there

    def summary(self) -> dict[str, Any]:
        """Precision and recall with their intervals."""
        return {"precision": proportion(self.right, self.spoke), "recall": proportion(self.right, self.there)}
