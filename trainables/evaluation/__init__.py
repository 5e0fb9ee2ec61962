"""Held-out scores: losses, generated answers, scorers, and the objective."""
