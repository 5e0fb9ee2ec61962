"""Long runs: the watchdog, preemption of nodes, and fault injection for tests."""
