"""LR schedule, optimizer, and what the workers of a trial share in one step."""
