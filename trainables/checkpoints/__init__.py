"""Checkpoints of a trial: saved while it trains on, loaded, resumed from."""
