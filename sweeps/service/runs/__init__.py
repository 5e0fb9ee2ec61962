"""Sweeps as processes: planned before they are queued, started, watched and stopped."""
