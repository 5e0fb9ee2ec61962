"""Any checkpoint or model on a fixed set of areas, with results that accumulate in the storage."""
