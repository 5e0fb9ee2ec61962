"""What a sweep does, in order: baseline, packing, search, confirmation, subsets, retraining, sealed areas, finish."""
