"""One trial: data, model, loop, held-out scores, checkpoints."""
