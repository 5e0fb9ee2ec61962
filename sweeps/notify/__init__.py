"""What a finished sweep tells the outside: a webhook, W&B."""
