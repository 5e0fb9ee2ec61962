"""What dispatcher, ledger and search cost at many lanes."""
