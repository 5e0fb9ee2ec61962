"""The sweeps of a storage path, a row each."""

from analysis.index.storage import read_index

__all__ = ["read_index"]
