"""Weights that are shared out over the workers of a trial."""
