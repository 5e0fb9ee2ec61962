"""A sweep's folder as typed records."""

from analysis.records.sweep import read_sweep

__all__ = ["read_sweep"]
