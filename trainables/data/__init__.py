"""From a raw file to batches: sources, samples, tokens, and the order of an epoch."""
