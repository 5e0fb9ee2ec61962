"""Cost of dispatcher, ledger and search at many lanes."""
