"""Training samples whose answer is likely wrong."""
