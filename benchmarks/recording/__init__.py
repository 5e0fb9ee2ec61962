"""Records real loss curves for the benchmarks that replay them."""
