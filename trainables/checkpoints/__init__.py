"""Checkpoints of a trial: saved beside the steps, loaded, resumed from."""
