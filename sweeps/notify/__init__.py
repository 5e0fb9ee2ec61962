"""News of a sweep: a webhook, W&B."""
