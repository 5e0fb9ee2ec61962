"""Real loss curves, recorded once for the benchmarks that replay them."""
