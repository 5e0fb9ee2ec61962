"""LR schedule, optimizer, and the data that the workers of a trial share in a step."""
