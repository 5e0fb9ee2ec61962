"""What the running sweep keeps track of: supervision, recording, budget, interruption, checkpoints."""
