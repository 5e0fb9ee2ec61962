"""Is a held-out set real? What an area shares with the training set, what it asks beyond it, what it can show. Pure."""
