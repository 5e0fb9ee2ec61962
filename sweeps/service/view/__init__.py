"""What the service shows of the storage's sweeps and of the queue."""
