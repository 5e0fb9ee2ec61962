"""What a trial costs beside its training."""
