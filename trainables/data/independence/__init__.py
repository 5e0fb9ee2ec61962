"""Check whether a held-out area is independent of the training set, what it asks beyond it, and its power. Pure."""
