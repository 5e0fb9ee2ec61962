"""Notifications of a sweep's end: a webhook, W&B."""
