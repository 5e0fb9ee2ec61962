"""The best checkpoint as a verified Hugging Face folder."""

from analysis.export.export import export

__all__ = ["export"]
