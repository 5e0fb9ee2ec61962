"""Training samples that are likely wrong."""
