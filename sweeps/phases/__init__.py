"""What a sweep does, in order: baseline, packing, search, confirmation, subsets, sealed areas, finish."""
